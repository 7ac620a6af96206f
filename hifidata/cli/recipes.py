"""``hifidata recipes list|show|copy``: the bundled recipes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from hifidata.cli import console
from hifidata.cli.options import JsonOption
from hifidata.core.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="List, print and copy the bundled recipes.")

NameArg = Annotated[str, typer.Argument(metavar="NAME", help="name of the recipe, for example folder")]
TargetArg = Annotated[Path, typer.Argument(metavar="[FILE]", help="file to write; default: NAME.yaml in this folder")]


@app.command("list")
def list_(json_out: JsonOption = False) -> None:
    """List the recipes, with one sentence about each."""
    from hifidata.config.bundled import bundled_recipes

    rows = [(name, _about(path), str(path)) for name, path in bundled_recipes().items()]
    if json_out:
        console.write_json([dict(zip(("name", "about", "path"), row, strict=True)) for row in rows])
    else:
        console.table("", ("name", "about"), [row[:2] for row in rows])


@app.command()
def show(name: NameArg) -> None:
    """Print a recipe."""
    from hifidata.config.bundled import recipe_path

    console.out.print(recipe_path(name).read_text(encoding="utf-8").rstrip())


@app.command()
def copy(name: NameArg, target: TargetArg = Path()) -> None:
    """Copy a recipe, to edit the copy."""
    from hifidata.config.bundled import recipe_path

    source = recipe_path(name)
    file = target / f"{source.stem}.yaml" if target.is_dir() else target
    if file.exists():
        raise UsageError(f"{file}: the file exists already; name another file")
    shutil.copyfile(source, file)
    console.out.print(str(file))


def _about(path: Path) -> str:
    """Return the first comment line of a recipe."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return first.lstrip("# ").rstrip()
