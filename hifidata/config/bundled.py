"""The bundled recipes by name. The wheel contains them; in a checkout they are in ``pipelines/``."""

from __future__ import annotations

import difflib
from pathlib import Path

from hifidata.core.errors import RecipeError

DEFAULT_RECIPES = ("demo", "folder", "web", "imdb_face")
"""Recipes for a machine without a GPU, on models whose files come from package registries."""

PACKAGE = Path(__file__).resolve().parents[1]


def bundled_recipes() -> dict[str, Path]:
    """Return the recipe files by name, in alphabetical order."""
    installed = PACKAGE / "recipes"
    folder = installed if installed.is_dir() else PACKAGE.parent / "pipelines"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def recipe_path(name: str) -> Path:
    """Return the file for the argument RECIPE of a command: an existing file, or the bundled recipe with that name.

    Raises:
        RecipeError: neither exists. The message names the nearest bundled recipe.
    """
    if Path(name).is_file():
        return Path(name)
    known = bundled_recipes()
    if name in known:
        return known[name]
    close = difflib.get_close_matches(Path(name).stem, known, n=1)
    hint = f"did you mean the recipe {close[0]}?" if close else f"bundled recipes: {', '.join(known)}"
    raise RecipeError(f"recipe {name}: no such file; {hint}")
