"""Files that appear whole or not at all: temp file in the same folder, fsync, rename, fsync of the folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY_PREFIX = ".tmp-"


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a binary file that becomes ``path`` when the block ends, and vanishes when it raises.

    A reader sees the old file or the new one. A process that dies leaves at most a ``.tmp-*`` file, which the next run
    removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{os.uname().nodename}-{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """``path.write_bytes`` that nobody can see half done."""
    with atomic_file(path) as file:
        file.write(data)


def remove(path: Path) -> None:
    """Removes a file, and its folder where nothing else lies in it: a folder's name is the start of a person's id."""
    path.unlink()
    with suppress(OSError):
        path.parent.rmdir()


def remove_temporary(folder: Path) -> int:
    """Removes what killed processes left; returns how many files. Only for the holder of the folder's lock."""
    leftovers = list(folder.rglob(f"{TEMPORARY_PREFIX}*"))
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return len(leftovers)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its rename is durable enough for what we promise there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
