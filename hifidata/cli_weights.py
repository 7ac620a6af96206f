"""``hifidata weights list|pull|verify``: the catalogue on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from hifidata import console

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
    """Lists the catalogue: file, size, licence, who needs it, and whether it is here."""
    from hifidata.run.needs import describe

    rows = [describe(weight) for weight in _selected(names or ["all"])]
    if json_out:
        console.write_json(rows)
        return
    words = {True: "yes", False: "no", None: "unknown"}
    console.table(
        "",
        ("name", "state", "bytes", "file", "commercial use", "licence", "needed by"),
        [
            (row["name"], row["state"], row["bytes"], row["file"], words[row["commercial"]], row["licence"],
             " ".join(row["needed_by"]))
            for row in rows
        ],
        right=("bytes",),
    )  # fmt: skip


@app.command()
def pull(names: NamesArg, replace: ReplaceOption = False, json_out: JsonOption = False) -> None:
    """Downloads what is missing into the cache; files that are here and right are left as they are."""
    from hifidata.weights.download import pull as fetch_all
    from hifidata.weights.locate import look, missing_message

    weights = _selected(names)
    by_hand = [w for w in weights if w.origin is None and look(w).state in ("missing", "altered")]
    with console.DownloadDisplay() as display:
        pulled = fetch_all([weight for weight in weights if weight not in by_hand], display.update, replace=replace)
    for item in pulled:
        console.err.print(f"{item.weight.name}: {item.weight.licence}")
        if item.is_new_pin:
            console.err.print(f"{item.weight.name}: nobody publishes its hash; what is here now was pinned")
    rows = [(p.weight.name, "was here" if p.was_there else "pulled", str(p.path)) for p in pulled]
    if json_out:
        console.write_json([dict(zip(("name", "result", "path"), row, strict=True)) for row in rows])
    else:
        console.table("", ("name", "result", "path"), rows)
    for weight in by_hand:
        console.err.print(missing_message(weight))
    if by_hand and names != ["all"]:
        raise typer.Exit(2)


@app.command()
def verify(names: OptionalNamesArg = None, json_out: JsonOption = False) -> None:
    """Hashes every file that is here; exit 1 where one is not what it must be."""
    from hifidata.run.needs import describe

    rows = [describe(weight, fresh=True) for weight in _selected(names or ["all"])]
    rows = [row for row in rows if row["state"] != "missing"]
    if json_out:
        console.write_json(rows)
    else:
        console.table("", ("name", "state", "path"), [(row["name"], row["state"], row["path"]) for row in rows])
    altered = [row for row in rows if row["state"] == "altered"]
    for row in altered:
        console.err.print(f"error: weights {row['name']}: {row['path']} {row['problem']}")
    if altered:
        raise typer.Exit(1)


def _selected(names: list[str]) -> list[Weight]:
    """Entries that names, recipes or ``all`` stand for, each once. Raises WeightsError or RecipeError."""
    from hifidata.weights.catalogue import CATALOGUE, entry

    found: dict[str, Weight] = {}
    for name in names:
        recipe = None if name in CATALOGUE else _recipe_path(name)
        if name == "all":
            found |= CATALOGUE
        elif recipe is not None:
            found |= {weight.name: weight for weight in _of_recipe(recipe)}
        else:
            found[name] = entry(name)
    return list(found.values())


def _recipe_path(name: str) -> Path | None:
    """The recipe a name stands for: a file, or one of ``pipelines/`` here or in the checkout; None: no recipe."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    folders = (Path("pipelines"), Path(__file__).resolve().parent.parent / "pipelines")
    return next((path for folder in folders if (path := folder / f"{name}.yaml").is_file()), None)


def _of_recipe(path: Path) -> list[Weight]:
    from hifidata.recipe import load_recipe
    from hifidata.run.needs import check_licences, needed_weights

    recipe = load_recipe(path)
    check_licences(recipe)
    return needed_weights(recipe)
