"""What a crawl has fetched so far: the bytes by content, and a log per person, so that no URL is asked for twice."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from hifidata.errors import IntakeError
from hifidata.schema import Candidate, Reason
from hifidata.store.atomic import TEMPORARY_PREFIX, write_bytes
from hifidata.store.folder import DatasetFolder

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
        """Stores bytes; a reader sees all of them or none. Not synced to disk: ``holds`` tells what a power cut took."""
        path = self.path(identity_id, content_sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{identity_id}-{path.name}")
        temporary.write_bytes(content)
        os.replace(temporary, path)
        return path

    def holds(self, identity_id: str, content_sha256: str, n_bytes: int) -> bool:
        """Whether those bytes are there, by their size."""
        try:
            return self.path(identity_id, content_sha256).stat().st_size == n_bytes
        except FileNotFoundError:
            return False

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
            raise IntakeError(Reason.UNREADABLE_FILE, f"the downloaded file is gone: {error.strerror}") from error


def sweep(folder: DatasetFolder) -> int:
    """Removes kept originals that no row of images.parquet names, as after people left the list; returns how many."""
    named = pq.read_table(folder.manifests / "images.parquet", columns=["content_sha256"])["content_sha256"]
    wanted = set(named.to_pylist())
    orphans = [path for path in folder.originals.glob("??/*") if path.name not in wanted]
    for orphan in orphans:
        orphan.unlink()
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
            lines = self._path.read_bytes().split(b"\n")[:-1]  # what stands after the last line break is torn
        except FileNotFoundError:
            return {}
        entries: dict[str, Entry] = {}
        for line in lines:
            try:
                entry = json.loads(line)
                entries[entry["key"]] = entry
            except (ValueError, TypeError, KeyError):  # the torn line of an earlier kill, glued to the next one
                continue
        return entries

    def append(self, entry: Mapping[str, Any]) -> None:
        """Adds an entry; it needs a ``key``."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "ab") as file:
            file.write(_line(entry))

    def replace(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Puts these entries in place of all others, atomically."""
        write_bytes(self._path, b"".join(_line(entry) for entry in entries))

    def delete(self) -> None:
        """Forgets the person."""
        self._path.unlink(missing_ok=True)


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"
