"""``hifidata weights list|show|pull|verify``: the catalogue on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from hifidata.cli import console

if TYPE_CHECKING:
    from hifidata.weights.catalogue import Weight

app = typer.Typer(no_args_is_help=True, help="Model files: what there is, what is here, and how to get the rest.")

JsonOption = Annotated[bool, typer.Option("--json", help="machine-readable output on stdout")]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="download also what is here, and forget what was pinned of it")
]
NamesArg = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="catalogue entries, recipes (`paper` or a YAML file), or `all`"),
]
OptionalNamesArg = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Argument(metavar="[NAME...]", help="catalogue entries or recipes; everything where none is named"),
]


@app.command("list")
def list_(names: OptionalNamesArg = None, json_out: JsonOption = False) -> None:
    """Lists the catalogue: file, size, licence, who needs it, and whether it is here; --json adds address and hash."""
    from hifidata.run.requirements import describe
    from hifidata.weights.search_path import require_offline_folder

    require_offline_folder()
    rows = [describe(weight) for weight in _selected(names or ["all"])]
    if json_out:
        console.write_json(rows)
        return
    console.table(
        "",
        ("name", "state", "bytes", "file", "commercial use", "licence", "needed by"),
        [
            (row["name"], row["state"], row["bytes"], row["file"], row["commercial_use"], row["licence"],
             " ".join(row["needed_by"]))
            for row in rows
        ],
        right=("bytes",),
    )  # fmt: skip


@app.command()
def show(names: NamesArg, json_out: JsonOption = False) -> None:
    """Shows all that is known of entries: address, hash, where it lies, what to do where it does not."""
    from hifidata.run.requirements import describe

    rows = [describe(weight) for weight in _selected(names)]
    if json_out:
        console.write_json(rows)
        return
    for row in rows:
        parts = {name: f"{part['bytes']} bytes, sha256 {part['sha256']}" for name, part in row["files"].items()}
        hidden = ("name", "files", "commercial", "can_pull")
        facts = [(name, value) for name, value in row.items() if value is not None and name not in hidden]
        words = [(name, " ".join(value) if isinstance(value, list) else value) for name, value in facts]
        console.table(row["name"], ("", " "), [*words, *parts.items()])


@app.command()
def pull(names: NamesArg, replace: ReplaceOption = False, json_out: JsonOption = False) -> None:
    """Downloads what is missing into the cache; files that are here and right are left as they are."""
    from hifidata.models import registry
    from hifidata.weights.download import pull_each
    from hifidata.weights.find import look
    from hifidata.weights.messages import can_pull, wrong_message

    weights = _selected(names)
    found = {weight.name: look(weight) for weight in weights if not can_pull(weight)}
    by_hand = [weight for weight in weights if weight.name in found and found[weight.name].is_wrong]
    for weight in by_hand:  # first: whoever waits for gigabytes can go and find these meanwhile
        console.err.print(f"by hand: {wrong_message(weight, found[weight.name])}")
    with console.DownloadDisplay() as display:
        wanted = [weight for weight in weights if weight not in by_hand]
        pulled, failed = pull_each(wanted, display.update, replace=replace, make=registry.make)
    for item in pulled:
        console.err.print(f"{item.weight.name}: {item.weight.licence}")
        if item.is_new_pin:
            console.err.print(f"{item.weight.name}: nobody publishes its hash; what is here now was pinned")
    rows: list[tuple[str, str, str | None]] = [
        (p.weight.name, "was here" if p.was_there else "pulled", str(p.path)) for p in pulled
    ]
    rows += [(name, "failed", None) for name in failed] + [(weight.name, "by hand", None) for weight in by_hand]
    if json_out:
        console.write_json([dict(zip(("name", "result", "path"), row, strict=True)) for row in rows])
    else:
        console.table("", ("name", "result", "path"), rows)
    _closing_lines(failed, [weight.name for weight in by_hand])
    if failed or (by_hand and names != ["all"]):
        raise typer.Exit(2)


def _closing_lines(failed: Mapping[str, str], by_hand: Sequence[str]) -> None:
    """What did not come and why, each reason once."""
    for reason in dict.fromkeys(failed.values()):
        console.err.print(f"error: {', '.join(name for name in failed if failed[name] == reason)}: {reason}")
    if failed:
        console.err.print(f"not pulled: {', '.join(failed)}; the same command tries these again")
    if by_hand:
        console.err.print(f"still to be brought by hand, see above: {', '.join(by_hand)}")


@app.command()
def verify(names: OptionalNamesArg = None, json_out: JsonOption = False) -> None:
    """Hashes every file that is here; exit 1 where one is not what it must be, or one that is named is not here."""
    from hifidata.run.requirements import describe
    from hifidata.weights.search_path import require_offline_folder

    require_offline_folder()
    rows = [describe(weight, fresh=True) for weight in _selected(names or ["all"])]
    if not names or "all" in names:
        rows = [row for row in rows if row["state"] != "missing"]
    if json_out:
        console.write_json(rows)
    else:
        console.table("", ("name", "state", "path"), [(row["name"], row["state"], row["path"]) for row in rows])
    wrong = [row["advice"] for row in rows if row["advice"]]
    for advice in wrong:
        console.err.print(f"error: {advice}")
    if wrong:
        raise typer.Exit(1)


def _selected(names: list[str]) -> list[Weight]:
    """Entries that names, recipes or ``all`` stand for, each once. Raises WeightsError or RecipeError."""
    from hifidata.models.registry import catalogue
    from hifidata.weights.catalogue import entry

    found: dict[str, Weight] = {}
    known = catalogue()
    for name in names:
        recipe = None if name in known else _recipe_path(name)
        if name == "all":
            found |= known
        elif recipe is not None:
            found |= {weight.name: weight for weight in _of_recipe(recipe)}
        else:
            found[name] = known.get(name) or entry(name)
    return list(found.values())


def _recipe_path(name: str) -> Path | None:
    """The recipe that a name stands for: a file, or a recipe of the package; None: no recipe."""
    from hifidata.config.bundled import bundled_recipes

    return Path(name) if name.endswith((".yaml", ".yml")) else bundled_recipes().get(name)


def _of_recipe(path: Path) -> list[Weight]:
    from hifidata.config.recipe import load_recipe
    from hifidata.run.requirements import check_licences, needed_weights

    recipe = load_recipe(path)
    check_licences(recipe)
    return needed_weights(recipe)
