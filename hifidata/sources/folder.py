"""A folder with one sub-folder per person."""

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
    """Lists ``root/<person>/**/<file>``.

    Every regular file is a candidate whatever its extension (its content decides), except hidden files and the litter
    that file managers leave. Links that lead out of ``root`` are not followed. Files directly in ``root`` belong to
    nobody and are an error when there is no sub-folder at all.

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
        """One task per sub-folder, sorted by name. Raises SourceError for a missing, unreadable or empty folder."""
        if not self._root.is_dir():
            what = "is no folder" if self._root.exists() else "no such folder"
            raise SourceError(f"source.path: {self._root}: {what}; pass --set source.path=PHOTOS")
        root = self._root.resolve()
        try:
            people = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not _ignored(entry.name))
        except OSError as error:
            raise SourceError(
                f"source.path: {root}: cannot be listed: {error.strerror}; check its permissions"
            ) from error
        if not people:
            raise SourceError(
                f"source.path: {root}: no sub-folder in it; expected one sub-folder of photos per person "
                "(to remove the last one, delete the dataset)"
            )
        found = 0
        for person in people:
            candidates = tuple(self._candidates(root, person))
            found += len(candidates)
            name = _printable(person)
            yield IdentityTask(identity_id_of(name), name, "folder", candidates)
        if not found:
            raise SourceError(f"source.path: {root}: the sub-folders hold no files; expected photos in them")

    def _candidates(self, root: Path, person: str) -> Iterator[Candidate]:
        facts = {"licence": self._licence} if self._licence else {}
        for folder, subfolders, names in os.walk(root / person, onerror=_refuse):
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
        """The file's bytes. Raises IntakeError where the file is gone, unreadable or too large."""
        path = Path(candidate.locator)
        try:
            size = path.stat().st_size
            if size > self._max_bytes:
                raise IntakeError(TOO_MANY_BYTES, f"{size} bytes, the recipe allows {self._max_bytes}")
            return path.read_bytes()
        except OSError as error:
            raise IntakeError(UNREADABLE_FILE, f"cannot be read: {error.strerror}") from error


def _refuse(error: OSError) -> None:
    # Listed as empty, a folder that cannot be read for a moment would lose its person.
    raise SourceError(f"source.path: {error.filename}: cannot be listed: {error.strerror}; check it and run again")


def _ignored(name: str) -> bool:
    return name.startswith(".") or name in IGNORED_NAMES


def _regular_inside(path: Path, root: Path) -> bool:
    try:
        return path.is_file() and path.resolve().is_relative_to(root)
    except OSError:
        return False


def _printable(text: str) -> str:
    # File names are bytes, the manifest is UTF-8. Other bytes are written as \xNN there, with a hash, so that no other
    # name can become the same; the locator keeps the bytes.
    name = os.fsencode(text)
    shown = name.decode("utf-8", errors="backslashreplace")
    return shown if shown.encode() == name else f"{shown}~{hashlib.sha256(name).hexdigest()[:8]}"
