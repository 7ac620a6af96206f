"""What a crawl has fetched so far: the bytes by content, and a log per person, so that no URL is asked for twice."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hifidata.core.errors import IntakeError
from hifidata.core.files import TEMPORARY_PREFIX, remove, write_bytes
from hifidata.core.schema import Candidate
from hifidata.image.reasons import UNREADABLE_FILE
from hifidata.store.fragments import read_table
from hifidata.store.layout import DatasetFolder

Entry = dict[str, Any]


class Originals:
    """Fetched bytes by their sha256: for good in ``OUT/originals/``, or until their person is committed in ``state/``.

    Args:
        folder: the dataset folder.
        keep: whether they stay.
    """

    def __init__(self, folder: DatasetFolder, keep: bool) -> None:
        self._folder = folder
        self._keep = keep

    def path(self, identity_id: str, content_sha256: str) -> Path:
        """Where the bytes of one of the person's pictures lie."""
        if self._keep:
            return self._folder.originals / content_sha256[:2] / content_sha256
        return self._folder.waiting_originals / identity_id[:2] / identity_id / content_sha256

    def write(self, identity_id: str, content_sha256: str, content: bytes) -> Path:
        """Stores bytes; a reader sees all of them or none. Not synced to disk: ``find`` tells what a power cut took."""
        path = self.path(identity_id, content_sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: two URLs of one person may bring the same bytes at the same time.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=TEMPORARY_PREFIX, delete=False) as file:
            file.write(content)
        os.replace(file.name, path)
        return path

    def find(self, identity_id: str, content_sha256: str, n_bytes: int) -> Path | None:
        """Where those bytes lie, by their size; also where they lie from a run that kept them, or did not."""
        path = self.path(identity_id, content_sha256)
        other = Originals(self._folder, not self._keep).path(identity_id, content_sha256)
        for place in (path, other):
            with suppress(FileNotFoundError):
                if place.stat().st_size == n_bytes:
                    return self._moved(place, path) if self._keep else place
        return None

    @staticmethod
    def _moved(place: Path, path: Path) -> Path:
        if place != path:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(place, path)
        return path

    def is_waiting(self, identity_id: str) -> bool:
        """Whether bytes lie here until the person is committed."""
        return not self._keep and self.path(identity_id, "").exists()

    def forget(self, identity_id: str) -> None:
        """The person is committed: bytes that nobody wants to keep go."""
        if not self._keep:
            shutil.rmtree(self.path(identity_id, ""), ignore_errors=True)

    def read(self, candidate: Candidate) -> bytes:
        """The fetched bytes of a candidate. Raises IntakeError where they are gone."""
        try:
            return Path(candidate.locator).read_bytes()
        except OSError as error:
            raise IntakeError(UNREADABLE_FILE, f"the downloaded file is gone: {error.strerror}") from error


def sweep(folder: DatasetFolder) -> int:
    """Removes kept originals that no row of images.parquet names, as after people left the list; returns how many."""
    named = read_table(folder.manifests / "images.parquet", ["content_sha256"])["content_sha256"]
    wanted = set(named.to_pylist())
    orphans = [path for path in folder.originals.glob("??/*") if path.name not in wanted]
    for orphan in orphans:
        remove(orphan)
    return len(orphans)


class CrawlLog:
    """What became of each of a person's URLs, one JSON object per line, appended as each one ends.

    A line torn by a kill is not one: its URL is fetched again.
    """

    def __init__(self, folder: DatasetFolder, identity_id: str) -> None:
        self._path = folder.state / "crawl" / identity_id[:2] / f"{identity_id}.jsonl"

    def read(self) -> dict[str, Entry]:
        """The last entry of every key."""
        try:
            *lines, torn = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return {}
        entries: dict[str, Entry] = {}
        for line in lines:
            try:
                entry = json.loads(line)
                entries[entry["key"]] = entry
            except (ValueError, TypeError, KeyError):  # torn by a full disk, and glued to the one after it
                continue
        if torn:  # the next line would be glued to it
            self.replace(entries.values())
        return entries

    def append(self, entry: Mapping[str, Any]) -> None:
        """Adds an entry; it needs a ``key``."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "ab") as file:
            file.write(_line(entry))

    def replace(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Puts these entries in place of all others, atomically."""
        write_bytes(self._path, b"".join(_line(entry) for entry in entries))


def remove_logs(folder: DatasetFolder, wanted: Container[str]) -> None:
    """Forgets people who are not wanted any more."""
    for log in (folder.state / "crawl").glob("??/*.jsonl"):
        if log.stem not in wanted:
            remove(log)


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"
