"""``hifidata weights list|show|pull|verify``: the catalogue of model files, and their state on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from hifidata.cli import console
from hifidata.cli.options import JsonOption

if TYPE_CHECKING:
    from hifidata.weights.catalogue import Weight

app = typer.Typer(no_args_is_help=True, help="List, download and verify model files.")

ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="download existing files again, and discard their pinned hashes")
]
NamesArg = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME...",
        help="catalogue entries, models, recipes (`paper` or a YAML file), `default` (the default recipes), or `all`",
    ),
]
OptionalNamesArg = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Argument(metavar="[NAME...]", help="catalogue entries, models or recipes; default: all entries"),
]


@app.command("list")
def list_(names: OptionalNamesArg = None, json_out: JsonOption = False) -> None:
    """List the catalogue: file, size, licence, models and state on this machine. --json adds URL and hash."""
    from hifidata.run.requirements import describe_weight
    from hifidata.weights.search_path import require_offline_folder

    require_offline_folder()
    rows = [describe_weight(weight) for weight in _selected(names or ["all"])]
    if json_out:
        console.write_json(rows)
        return
    console.table(
        "",
        ("name", "state", "bytes", "file", "from", "commercial use", "licence", "needed by"),
        [
            (row["name"], row["state"], row["bytes"], row["file"], row["from"], row["commercial_use"],
             row["licence"], " ".join(row["needed_by"]))
            for row in rows
        ],
        right=("bytes",),
    )  # fmt: skip


@app.command()
def show(names: NamesArg, json_out: JsonOption = False) -> None:
    """Show all facts of catalogue entries: URL, hash, path, and the remedy for a missing file."""
    from hifidata.run.requirements import describe_weight

    rows = [describe_weight(weight) for weight in _selected(names)]
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
    """Download missing files to the cache. Correct files are not downloaded again."""
    from hifidata.models import registry
    from hifidata.weights.download import pull_each
    from hifidata.weights.find import status_of
    from hifidata.weights.messages import can_pull, problem_message

    weights = _selected(names)
    found = {weight.name: status_of(weight) for weight in weights if not can_pull(weight)}
    manual = [weight for weight in weights if weight.name in found and found[weight.name].is_wrong]
    for weight in manual:  # first, so that the user can download these files during the long downloads
        console.err.print(f"download manually: {problem_message(weight, found[weight.name])}")
    with console.DownloadDisplay() as display:
        wanted = [weight for weight in weights if weight not in manual]
        pulled, failed = pull_each(wanted, display.update, replace=replace, make=registry.make)
    for item in pulled:
        console.err.print(f"{item.weight.name}: {item.weight.licence}")
        if item.is_new_pin:
            console.err.print(f"{item.weight.name}: no published hash; the hash of this download is now pinned")
    rows: list[tuple[str, str, str | None]] = [
        (p.weight.name, "was here" if p.was_there else "pulled", str(p.path)) for p in pulled
    ]
    rows += [(name, "failed", None) for name in failed] + [
        (weight.name, "download manually", None) for weight in manual
    ]
    if json_out:
        console.write_json([dict(zip(("name", "result", "path"), row, strict=True)) for row in rows])
    else:
        console.table("", ("name", "result", "path"), rows)
    _print_missing(failed, [weight.name for weight in manual])
    if failed or (manual and names != ["all"]):
        raise typer.Exit(2)


def _print_missing(failed: Mapping[str, str], manual: Sequence[str]) -> None:
    """Print the files that were not downloaded, and each reason once."""
    for reason in dict.fromkeys(failed.values()):
        console.err.print(f"error: {', '.join(name for name in failed if failed[name] == reason)}: {reason}")
    if failed:
        console.err.print(f"not downloaded: {', '.join(failed)}; run the same command to retry")
    if manual:
        console.err.print(f"download manually, see above: {', '.join(manual)}")


@app.command()
def verify(names: OptionalNamesArg = None, json_out: JsonOption = False) -> None:
    """Compute the hash of each file. Exits with 1 if a file is wrong, or if a named file is missing."""
    from hifidata.run.requirements import describe_weight
    from hifidata.weights.search_path import require_offline_folder

    require_offline_folder()
    rows = [describe_weight(weight, fresh=True) for weight in _selected(names or ["all"])]
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
    """Return the entries for names of entries, models or recipes, ``default`` or ``all``, each once.

    Raises:
        WeightsError: a name is unknown.
        RecipeError: a recipe cannot be read.
    """
    from hifidata.config.bundled import DEFAULT_RECIPES, bundled_recipes
    from hifidata.models.registry import catalogue, files_of_model
    from hifidata.weights.catalogue import entry

    known = catalogue()
    found: list[Weight] = []
    for name in names:
        if name == "all":
            found += known.values()
        elif name in known:
            found.append(known[name])
        elif name == "default":
            found += [weight for recipe in DEFAULT_RECIPES for weight in _of_recipe(bundled_recipes()[recipe])]
        elif recipe := _recipe_path(name):
            found += _of_recipe(recipe)
        else:
            of_model = files_of_model(name)
            found += [entry(name)] if of_model is None else of_model
    return list({weight.name: weight for weight in found}.values())


def _recipe_path(name: str) -> Path | None:
    """Return the recipe file for a name: a YAML file, or a bundled recipe; None for other names."""
    from hifidata.config.bundled import bundled_recipes

    return Path(name) if name.endswith((".yaml", ".yml")) else bundled_recipes().get(name)


def _of_recipe(path: Path) -> list[Weight]:
    from hifidata.config.recipe import load_recipe
    from hifidata.run.requirements import check_licences, needed_weights

    recipe = load_recipe(path)
    check_licences(recipe)
    return needed_weights(recipe)
