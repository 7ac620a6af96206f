"""A source for a folder with one sub-folder per identity."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from hifidata.core.errors import IntakeError, SourceError
from hifidata.core.schema import Candidate, IdentityTask, identity_id_of
from hifidata.image.reasons import TOO_MANY_BYTES, UNREADABLE_FILE

IGNORED_NAMES = frozenset({"Thumbs.db", "desktop.ini", "@eaDir", "__MACOSX"})


class FolderSource:
    """List ``root/<identity>/**/<file>``.

    Every regular file is a candidate, with any extension: its content decides. Hidden files and ``IGNORED_NAMES`` are
    ignored. So are files directly in ``root`` and links that lead out of it.

    Args:
        root: the folder.
        licence: recorded for every candidate.
        max_bytes: a larger file is refused before it is read.
    """

    def __init__(self, root: Path, licence: str | None = None, max_bytes: int = 32 * 2**20) -> None:
        self._root = root
        self._licence = licence
        self._max_bytes = max_bytes

    def identities(self) -> Iterator[IdentityTask]:
        """Yield one task per sub-folder, sorted by name. Raises SourceError for a missing, unreadable or empty folder."""
        if not self._root.is_dir():
            problem = "is not a folder" if self._root.exists() else "no such folder"
            raise SourceError(f"source.path: {self._root}: {problem}; pass --set source.path=PHOTOS")
        root = self._root.resolve()
        try:
            names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not _ignored(entry.name))
        except OSError as error:
            raise SourceError(
                f"source.path: {root}: cannot be listed: {error.strerror}; check its permissions"
            ) from error
        if not names:
            raise SourceError(
                f"source.path: {root}: has no sub-folder; expected one sub-folder of photos per person. To remove the last "
                "person of a dataset, delete the dataset."
            )
        n_candidates = 0
        for folder_name in names:
            candidates = tuple(self._candidates(root, folder_name))
            n_candidates += len(candidates)
            name = _printable(folder_name)
            yield IdentityTask(identity_id_of(name), name, "folder", candidates)
        if not n_candidates:
            raise SourceError(f"source.path: {root}: the sub-folders contain no files; expected photos in them")

    def _candidates(self, root: Path, folder_name: str) -> Iterator[Candidate]:
        facts = {"licence": self._licence} if self._licence else {}
        for folder, subfolders, names in os.walk(root / folder_name, onerror=_raise_source_error):
            subfolders[:] = sorted(name for name in subfolders if not _ignored(name))
            for name in sorted(names):
                path = Path(folder, name)
                if _ignored(name) or not _regular_inside(path, root):
                    continue
                status = path.stat()
                relative = path.relative_to(root).as_posix()
                yield Candidate(
                    source_uri=_printable(path.as_posix()),
                    relative_path=_printable(relative.split("/", 1)[1]),
                    version=f"{status.st_size}:{status.st_mtime_ns}",
                    locator=path.as_posix(),
                    facts=facts,
                )

    def read(self, candidate: Candidate) -> bytes:
        """Return the bytes of the file. Raises IntakeError if the file is missing, unreadable or too large."""
        path = Path(candidate.locator)
        try:
            size = path.stat().st_size
            if size > self._max_bytes:
                raise IntakeError(TOO_MANY_BYTES, f"{size} bytes, the recipe allows {self._max_bytes}")
            return path.read_bytes()
        except OSError as error:
            raise IntakeError(UNREADABLE_FILE, f"cannot be read: {error.strerror}") from error


def _raise_source_error(error: OSError) -> None:
    # os.walk would list a temporarily unreadable folder as empty, and the identity would be lost.
    raise SourceError(f"source.path: {error.filename}: cannot be listed: {error.strerror}; check it and run again")


def _ignored(name: str) -> bool:
    return name.startswith(".") or name in IGNORED_NAMES


def _regular_inside(path: Path, root: Path) -> bool:
    try:
        return path.is_file() and path.resolve().is_relative_to(root)
    except OSError:
        return False


def _printable(text: str) -> str:
    # File names are bytes, the manifest is UTF-8. Other bytes become \xNN, and a hash keeps the names different. The
    # locator keeps the original bytes.
    name = os.fsencode(text)
    shown = name.decode("utf-8", errors="backslashreplace")
    return shown if shown.encode() == name else f"{shown}~{hashlib.sha256(name).hexdigest()[:8]}"
