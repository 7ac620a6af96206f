"""The two folders that are searched for model files, with their sub-folders.

First the folder of ``HIFI_WEIGHTS`` (or the recipe's ``weights.folder``), which is read only. Then the cache, which
``hifidata weights pull`` fills.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from hifidata.core.errors import WeightsError

FOLDER_VARIABLE = "HIFI_WEIGHTS"
CACHE_VARIABLE = "HIFI_WEIGHTS_CACHE"

_recipe_folder: ContextVar[Path | None] = ContextVar("recipe_folder", default=None)


def search_folders() -> list[Path]:
    """Return the folders to search, in order."""
    return [folder for folder in (offline_folder(), cache_folder()) if folder is not None]


def offline_folder() -> Path | None:
    """Return the folder that the recipe (or ``--weights``) names, else that of ``HIFI_WEIGHTS``; it is never written to."""
    named = os.environ.get(FOLDER_VARIABLE)
    return _recipe_folder.get() or (Path(named).expanduser() if named else None)


def require_offline_folder() -> None:
    """Raise WeightsError where the offline folder does not exist; its files could not be checked."""
    folder = offline_folder()
    if folder is not None and not folder.is_dir():
        raise WeightsError(
            f"{folder}: no such folder, though {FOLDER_VARIABLE} names it; correct the variable, or unset it"
        )


def cache_folder() -> Path:
    """Return the folder of downloads: ``HIFI_WEIGHTS_CACHE``, or this platform's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "hifidata" / "weights"


@contextmanager
def searching(folder: str | Path | None) -> Iterator[None]:
    """Search this folder first, inside the block; None changes nothing."""
    token = _recipe_folder.set(Path(folder).expanduser() if folder else _recipe_folder.get())
    try:
        yield
    finally:
        _recipe_folder.reset(token)
