"""The folders that model files are looked for in.

Two: the folder of ``HIFI_WEIGHTS`` (or the recipe's ``weights.folder``), which is used as it is and never written to, with
its sub-folders; then the cache that ``hifidata weights pull`` fills.
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


def places() -> list[Path]:
    """Folders to search, in order."""
    return [folder for folder in (offline_folder(), cache_folder()) if folder is not None]


def offline_folder() -> Path | None:
    """The folder that the recipe (or ``--weights``) names, else that of ``HIFI_WEIGHTS``; used as it is."""
    named = os.environ.get(FOLDER_VARIABLE)
    return _recipe_folder.get() or (Path(named).expanduser() if named else None)


def require_offline_folder() -> None:
    """Raises WeightsError where a folder is named that does not exist: nothing that lies in it could be vouched for."""
    folder = offline_folder()
    if folder is not None and not folder.is_dir():
        raise WeightsError(
            f"{folder}: no such folder, though {FOLDER_VARIABLE} names it; mend the variable, or unset it"
        )


def cache_folder() -> Path:
    """Where downloads go: ``HIFI_WEIGHTS_CACHE``, or this platform's cache folder."""
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
    """Inside the block, this folder is searched first; None changes nothing."""
    token = _recipe_folder.set(Path(folder).expanduser() if folder else _recipe_folder.get())
    try:
        yield
    finally:
        _recipe_folder.reset(token)
