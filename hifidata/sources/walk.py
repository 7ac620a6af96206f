"""Walk a folder of files from other tools: through links, without loops, and without losing a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from hifidata.core.errors import SourceError
from hifidata.sources.companions import is_hidden

FolderKey = tuple[int, int]
"""Device and inode of a folder. All paths and links to it have the same key."""


class Entry:
    """A file, folder or link.

    Attributes:
        path: the path, with links as they are.
        status: stat result of the target; None for a link to a missing file.
    """

    __slots__ = ("path", "status")

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.status: os.stat_result | None = path.stat()
        except OSError:
            self.status = None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, or a link to one."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file, or a link to a regular or a missing file."""
        return self.status is None or stat.S_ISREG(self.status.st_mode)

    @property
    def key(self) -> FolderKey:
        """The key of a folder."""
        return (self.status.st_dev, self.status.st_ino) if self.status else (0, 0)


def list_folder(folder: Path) -> list[Entry]:
    """Return the entries of a folder, sorted by name.

    Raises:
        SourceError: the folder cannot be listed. Taken as empty, it would lose its files.
    """
    try:
        return [Entry(folder / name) for name in sorted(os.listdir(folder))]
    except OSError as error:
        raise SourceError(
            f"source.path: {folder}: cannot be listed: {error.strerror}; check its permissions and run again"
        ) from error


def walk_files(folder: Path, listed: set[FolderKey]) -> Iterator[Entry]:
    """Yield all entries below a folder that are no folders: in each folder sorted, files before sub-folders.

    Links are followed. Hidden folders, and folders that were listed already, are yielded and not entered.

    Args:
        folder: the folder.
        listed: keys of the listed folders; the walk adds those that it lists.

    Raises:
        SourceError: a folder cannot be listed.
    """
    waiting = [folder]
    while waiting:
        inner = []
        for entry in list_folder(waiting.pop()):
            if entry.is_folder and not is_hidden(entry.path.name) and entry.key not in listed:
                listed.add(entry.key)
                inner.append(entry.path)
            else:
                yield entry
        waiting += reversed(inner)
