"""Atomic writes (temporary file in the same folder, fsync, rename, fsync of the folder) and the lock of an output folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from hifidata.core.errors import FolderLockedError, UsageError

TEMPORARY_PREFIX = ".hifi-tmp-"
"""Of this project alone: clean-up must not remove the temporary files of other programs."""

HOLDER = "process "
"""Start of a lock file's text."""


def private_opener(path: str, flags: int) -> int:
    """Open a file for its owner alone, and through no link; for the argument ``opener`` of ``open``."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


@contextmanager
def atomic_file(path: Path, private: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes ``path`` at the end of the block. An exception deletes the file.

    Args:
        path: the file.
        private: only its owner may read it.

    A reader sees either the old or the new file. A process that dies leaves at most a ``.hifi-tmp-*`` file; the next
    run removes that file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{os.uname().nodename}-{os.getpid()}")
    try:
        with open(temporary, "wb", opener=private_opener if private else None) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # also Ctrl-C; it is raised again
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_bytes(path: Path, data: bytes, private: bool = False) -> None:
    """Write ``data`` to ``path`` atomically; see ``atomic_file``."""
    with atomic_file(path, private) as file:
        file.write(data)


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, and its folder if the folder is then empty. The folder's name is derived from an identity's id."""
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()


def remove_temporary(folder: Path) -> int:
    """Remove the temporary files of killed processes and return their number. The caller must hold the folder's lock."""
    leftovers = [path for path in folder.rglob(f"{TEMPORARY_PREFIX}*") if not path.is_dir()]
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return len(leftovers)


def find_link(folder: Path) -> Path | None:
    """Return a symbolic link at or below ``folder``, or None. No link is followed, and a missing folder has none."""
    if folder.is_symlink():
        return folder
    pending = [str(folder)] if folder.is_dir() else []
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    return Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return None


@contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file during the block. The system releases the lock when the process ends, for any reason.

    Args:
        path: the lock file. It names the process that holds it.
        refusal: start of the error message, without a full stop.

    Raises:
        FolderLockedError: another process holds the lock.
        UsageError: the path is a link, or a file with other content; it is left as it is.
    """
    with _lock_file(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = file.read().strip() or "unknown process"
            raise FolderLockedError(f"{refusal} ({holder}); wait for it or choose another --out") from None
        if file.read(len(HOLDER)) not in ("", HOLDER):
            raise UsageError(f"{path}: is not a lock file of this program; move it, or choose another --out")
        file.seek(0)
        file.truncate()
        file.write(f"{HOLDER}{os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        yield


def _lock_file(path: Path) -> TextIO:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        reason = "is a link" if error.errno == errno.ELOOP else f"cannot be opened as a lock ({error.strerror})"
        raise UsageError(f"{path}: {reason}; remove it, or choose another --out") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"{path}: is not a file; remove it, or choose another --out")
    return open(descriptor, "r+", encoding="utf-8", errors="replace")
