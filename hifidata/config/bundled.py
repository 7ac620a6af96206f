"""The recipes of the project by name: they travel in the wheel, and lie in ``pipelines/`` of a checkout."""

from __future__ import annotations

import difflib
from pathlib import Path

from hifidata.core.errors import RecipeError

PACKAGE = Path(__file__).resolve().parents[1]


def bundled_recipes() -> dict[str, Path]:
    """Recipe files by name, in alphabetical order."""
    installed = PACKAGE / "recipes"
    folder = installed if installed.is_dir() else PACKAGE.parent / "pipelines"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def recipe_path(name: str) -> Path:
    """The file that a command's RECIPE names: an existing file, or the recipe of the project with that name.

    Raises:
        RecipeError: there is neither; names the nearest recipe.
    """
    if Path(name).is_file():
        return Path(name)
    known = bundled_recipes()
    if name in known:
        return known[name]
    close = difflib.get_close_matches(Path(name).stem, known, n=1)
    hint = f"did you mean the recipe {close[0]}?" if close else f"recipes of the project: {', '.join(known)}"
    raise RecipeError(f"recipe {name}: no such file; {hint}")
