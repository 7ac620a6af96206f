"""Atomic writes (temporary file in the same folder, fsync, rename, fsync of the folder) and the lock of an output folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hifidata.core.errors import FolderLockedError

TEMPORARY_PREFIX = ".hifi-tmp-"
"""Of this project alone: clean-up must not remove the temporary files of other programs."""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes ``path`` at the end of the block. An exception deletes the file.

    A reader sees either the old or the new file. A process that dies leaves at most a ``.hifi-tmp-*`` file; the next
    run removes that file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{os.uname().nodename}-{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # also Ctrl-C; it is raised again
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_file(path) as file:
        file.write(data)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, and its folder if the folder is then empty. The folder's name is derived from an identity's id."""
    path.unlink()
    with suppress(OSError):
        path.parent.rmdir()


def remove_temporary(folder: Path) -> int:
    """Remove the temporary files of killed processes and return their number. The caller must hold the folder's lock."""
    leftovers = list(folder.rglob(f"{TEMPORARY_PREFIX}*"))
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return len(leftovers)


@contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file during the block. The system releases the lock when the process ends, for any reason.

    Args:
        path: the lock file. It names the process that holds it.
        refusal: start of the error message, without a full stop.

    Raises:
        FolderLockedError: another process holds the lock.
    """
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown process"
            raise FolderLockedError(f"{refusal} ({holder}); wait for it or choose another --out") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        yield
