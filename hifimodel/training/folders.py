"""Folders that appear whole or not at all, and the lock on a run's folder."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hifidata.core.errors import FolderLockedError
from hifimodel.errors import ConfigError

TEMPORARY_PREFIX = ".tmp-"


def begin_folder(path: Path) -> Path:
    """An empty folder beside ``path`` to write into; ``finish_folder`` makes it ``path``."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary


def finish_folder(path: Path) -> None:
    """Brings what was written to the disk, then gives it its name; an older folder of that name goes."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    for place in sorted(temporary.rglob("*"), reverse=True):
        _sync(place)
    _sync(temporary)
    remove_folder(path)
    temporary.rename(path)
    _sync(path.parent)


def remove_folder(path: Path) -> None:
    """Removes a folder so that nobody meets it half gone under its name."""
    if path.exists():
        doomed = path.with_name(f"{TEMPORARY_PREFIX}old-{path.name}")
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed)


def write_text(path: Path, text: str) -> None:
    """``path.write_text`` that leaves the old file or the new one, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    temporary.write_text(text, encoding="utf-8")
    _sync(temporary)
    temporary.replace(path)


def remove_leftovers(out: Path) -> None:
    """Removes what a killed run left half written. Only for the holder of the lock."""
    places = ("", "*/", "latents/*/*/")  # the run's own, and the shelves of the latent cache
    for leftover in [path for place in places for path in out.glob(f"{place}{TEMPORARY_PREFIX}*")]:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Holds the folder while a run writes into it. The lock goes with the process, however that ends.

    Raises:
        FolderLockedError: another run holds it.
        ConfigError: there is no folder, and none can be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = open(out / "lock", "a", encoding="utf-8")  # noqa: SIM115  # its reasons to fail are the folder's
    except OSError as error:
        raise ConfigError(f"--out {out}: no folder to write into ({error.strerror}); name another place") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderLockedError(f"{out}: another run trains here; wait for it, or take another --out") from None
        yield


def _sync(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
