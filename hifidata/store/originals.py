"""Files and logs of a crawl: fetched bytes by their sha256, and one log per identity, so that no URL is fetched twice."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hifidata.core.errors import IntakeError
from hifidata.core.files import TEMPORARY_PREFIX, private_opener, remove, write_bytes
from hifidata.core.schema import Candidate, IdentityTask
from hifidata.image.reasons import UNREADABLE_FILE
from hifidata.store.fragments import read_table
from hifidata.store.layout import DatasetFolder

Entry = dict[str, Any]
_CHECKSUM = b',"sha256":"'
SHA256 = re.compile("[0-9a-f]{64}")
"""File names of originals; files with other names are not of a crawl."""


class Originals:
    """Fetched bytes, stored by their sha256.

    Kept originals are in ``OUT/originals/``. Others are in ``state/`` until their identity is committed.

    Args:
        folder: the dataset folder.
        keep: whether to keep originals after the commit.
    """

    def __init__(self, folder: DatasetFolder, keep: bool) -> None:
        self._folder = folder
        self._keep = keep

    def path(self, identity_id: str, content_sha256: str) -> Path:
        """Return the path of one fetched file of an identity."""
        if self._keep:
            return self._folder.originals / content_sha256[:2] / content_sha256
        return self._folder.waiting_originals / identity_id[:2] / identity_id / content_sha256

    def write(self, identity_id: str, content_sha256: str, content: bytes) -> Path:
        """Store bytes with an atomic rename, without fsync: ``find`` and ``read`` detect damaged bytes."""
        path = self.path(identity_id, content_sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unique name: two URLs of one identity may return the same bytes at the same time.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=TEMPORARY_PREFIX, delete=False) as file:
            file.write(content)
        os.replace(file.name, path)
        return path

    def find(self, identity_id: str, content_sha256: str) -> Path | None:
        """Return the path of stored bytes that have this hash; a run with the other ``keep`` setting counts too."""
        path = self.path(identity_id, content_sha256)
        other = Originals(self._folder, not self._keep).path(identity_id, content_sha256)
        for found in (path, other):
            with suppress(OSError):
                if _sha256(found.read_bytes()) == content_sha256:
                    return self._moved(found, path) if self._keep else found
        return None

    @staticmethod
    def _moved(found: Path, path: Path) -> Path:
        if found != path:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(found, path)
        return path

    def is_waiting(self, identity_id: str) -> bool:
        """Return whether temporary originals of an identity wait for its commit."""
        return not self._keep and self.path(identity_id, "").exists()

    def forget(self, identity_id: str) -> None:
        """Remove the temporary originals of a committed identity."""
        if not self._keep:
            shutil.rmtree(self.path(identity_id, ""), ignore_errors=True)

    def read(self, candidate: Candidate) -> bytes:
        """Read the fetched bytes of a candidate. Raises IntakeError if the file is missing or damaged."""
        path = Path(candidate.locator)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise IntakeError(UNREADABLE_FILE, f"the downloaded file cannot be read: {error.strerror}") from error
        if _sha256(content) != path.name:
            message = "the downloaded file does not have the sha256 of its name; --retry failed downloads it again"
            raise IntakeError(UNREADABLE_FILE, message)
        return content


def sweep(folder: DatasetFolder) -> int:
    """Remove kept originals that no row of images.parquet names, such as those of removed identities.

    Returns:
        Number of removed files.
    """
    named = read_table(folder.manifests / "images.parquet", ["content_sha256"])["content_sha256"]
    wanted = set(named.to_pylist())
    orphans = [
        path for path in folder.originals.glob("??/*") if SHA256.fullmatch(path.name) and path.name not in wanted
    ]
    for orphan in orphans:
        remove(orphan)
    return len(orphans)


class CrawlLog:
    """The result of each URL of an identity: JSON lines, appended when a URL is finished.

    An incomplete last line, after a kill, is ignored, and so is a line whose checksum is wrong: its URL is fetched again.
    """

    def __init__(self, folder: DatasetFolder, identity_id: str) -> None:
        self._path = folder.state / "crawl" / identity_id[:2] / f"{identity_id}.jsonl"

    def read(self) -> dict[str, Entry]:
        """Return the last entry of each key."""
        try:
            *lines, incomplete = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return {}
        entries: dict[str, Entry] = {}
        for line in lines:
            try:
                entry = _entry_of(line)
                entries[entry["key"]] = entry
            except (ValueError, TypeError, KeyError):  # an entry cut by a full disk, merged with the next entry
                continue
        if incomplete:  # the next entry would be appended to it
            self.replace(entries.values())
        return entries

    def append(self, entry: Mapping[str, Any]) -> None:
        """Append an entry; it must have a ``key``."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "ab", opener=private_opener) as file:
            file.write(_line(entry))

    def replace(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Replace all entries atomically."""
        write_bytes(self._path, b"".join(_line(entry) for entry in entries), private=True)


class YieldOrder:
    """The order in which a crawl yields identities, in a file, so that a repeated reader yields the same sequence.

    Args:
        folder: the dataset folder.
        run_id: id of the run. The order of another run is replaced.
    """

    def __init__(self, folder: DatasetFolder, run_id: str) -> None:
        self._path, self._run_id = folder.yield_order, run_id
        self._repeated: deque[str] = deque()
        self._held: dict[str, IdentityTask] = {}
        self._n_recorded = 0

    @property
    def is_repeating(self) -> bool:
        """Whether identities of an earlier reader of this run are still to be yielded."""
        return bool(self._repeated)

    def begin(self) -> None:
        """Read the order of an earlier reader of this run, or start a new file."""
        try:
            run_id, *identities = self._path.read_text(encoding="utf-8").split("\n")[
                :-1
            ]  # the last line may be incomplete
        except (FileNotFoundError, ValueError):
            run_id, identities = "", []
        if run_id != self._run_id:
            identities = []
        self._repeated.extend(identities)
        write_bytes(self._path, "".join(f"{line}\n" for line in (self._run_id, *identities)).encode(), private=True)
        self._n_recorded = len(identities)

    def ready(self, task: IdentityTask) -> list[IdentityTask]:
        """Return the identities to yield now that this one is ready, in order."""
        self._held[task.identity_id] = task
        following = []
        while self._repeated and self._repeated[0] in self._held:
            following.append(self._held.pop(self._repeated.popleft()))
        return following if self._repeated else [*following, *self._take_held()]

    def rest(self) -> list[IdentityTask]:
        """Return the held identities at the end of the source, which has lost an identity of the earlier reader."""
        self._repeated.clear()
        return self._take_held()

    def append(self, identity_id: str) -> None:
        """Record an identity before it is yielded. The record survives the end of the process and of the machine."""
        if self._n_recorded:  # an earlier reader has recorded it
            self._n_recorded -= 1
            return
        with open(self._path, "ab", opener=private_opener) as file:
            file.write(f"{identity_id}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def _take_held(self) -> list[IdentityTask]:
        held = list(self._held.values())
        self._held.clear()
        return held


def remove_logs(folder: DatasetFolder, wanted: Container[str]) -> None:
    """Remove the crawl logs of all identities that are not wanted."""
    for log in (folder.state / "crawl").glob("??/*.jsonl"):
        if log.stem not in wanted:
            remove(log)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _line(entry: Mapping[str, Any]) -> bytes:
    """Return an entry as JSON whose last key is the sha256 of the rest."""
    text = json.dumps(entry, separators=(",", ":")).encode()
    return text[:-1] + _CHECKSUM + _sha256(text).encode() + b'"}\n'


def _entry_of(line: bytes) -> Entry:
    """Parse a line. Lines of hifidata 0.1.0 have no checksum. Raises ValueError where the checksum is wrong."""
    text, has_checksum, rest = line.rpartition(_CHECKSUM)
    if not has_checksum:
        return dict(json.loads(line))
    text += b"}"
    if rest != _sha256(text).encode() + b'"}':
        raise ValueError("the line is damaged")
    return dict(json.loads(text))
