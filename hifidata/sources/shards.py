"""A source for WebDataset shards: our own datasets, or any tar of jpg/png + json with an identity field."""

from __future__ import annotations

import glob
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hifidata.core.errors import IntakeError, SourceError
from hifidata.core.schema import Candidate, IdentityTask, identity_id_of
from hifidata.image.reasons import TOO_MANY_BYTES, UNREADABLE_FILE

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "gif", "avif"})
CARRIED_FACTS = {"licence": str, "landing_page_uri": str, "fetched_at": str, "http_status": int}
"""Columns copied from a sample's json if they have the manifest's type."""
MAX_JSON_BYTES = 2**20
OWN_ID = re.compile("[0-9a-f]{16}")


@dataclass
class _Sample:
    shard: Path
    key: str
    image: tarfile.TarInfo | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class ShardsSource:
    """List the samples of tars and group them by a field of their json.

    Listing reads only tar headers and json members; an image is read later by its offset. Samples of one identity may be
    in several shards.

    Args:
        path: a tar, a folder that is searched for ``*.tar``, or a glob pattern.
        identity_field: key of the sample's json.
        licence: recorded if the json has none.
        max_bytes: a larger image is refused before it is read.
    """

    def __init__(self, path: str, identity_field: str, licence: str | None = None, max_bytes: int = 32 * 2**20) -> None:
        self._path = path
        self._field = identity_field
        self._licence = licence
        self._max_bytes = max_bytes

    def identities(self) -> Iterator[IdentityTask]:
        """Yield one task per identity, sorted by id. Raises SourceError for no tars, a broken tar, a missing field."""
        candidates_of: dict[str, list[Candidate]] = {}
        shards = self._shards()
        base = Path(os.path.commonpath([shard.parent for shard in shards]))
        for shard in shards:
            for sample in _samples(shard):
                if sample.image is not None:
                    name = self._identity_of(sample)
                    candidates_of.setdefault(name, []).append(self._candidate(sample, sample.image, base))
        if not candidates_of:
            raise SourceError(
                f"source.path: {self._path}: the shards contain no image ({', '.join(sorted(IMAGE_SUFFIXES))})"
            )
        tasks = [
            # Our own datasets already use identity ids; they stay the same.
            IdentityTask(name if OWN_ID.fullmatch(name) else identity_id_of(name), name, "shards", tuple(found))
            for name, found in candidates_of.items()
        ]
        yield from sorted(tasks, key=lambda task: task.identity_id)

    def read(self, candidate: Candidate) -> bytes:
        """Return the bytes of the image member. Raises IntakeError for a missing or truncated shard or a large image."""
        path, _, span = candidate.locator.rpartition("::")
        offset, size = (int(number) for number in span.split("+"))
        if size > self._max_bytes:
            raise IntakeError(TOO_MANY_BYTES, f"{size} bytes, the recipe allows {self._max_bytes}")
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise IntakeError(UNREADABLE_FILE, f"cannot be read: {error.strerror}") from error
        if len(data) != size:
            raise IntakeError(UNREADABLE_FILE, f"the shard ends after {len(data)} of {size} bytes")
        return data

    def _shards(self) -> list[Path]:
        path = Path(self._path)
        found = (
            sorted(path.rglob("*.tar"))
            if path.is_dir()
            else sorted(Path(p) for p in glob.glob(self._path, recursive=True))
        )
        found = [path for path in found if path.is_file()]
        if not found:
            raise SourceError(
                f"source.path: {self._path}: no tar found; expected a tar, a folder of tars or a glob pattern"
            )
        return [shard.absolute() for shard in found]

    def _identity_of(self, sample: _Sample) -> str:
        value = sample.facts.get(self._field)
        if value is None or isinstance(value, (dict, list)):
            raise SourceError(
                f"source.identity_field: sample {sample.key} of {sample.shard} has no usable {self._field!r} in its json; "
                f"it has: {', '.join(sorted(sample.facts)) or 'nothing'}"
            )
        name = str(value)
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise SourceError(f"source.identity_field: sample {sample.key} of {sample.shard}: {name!r} is not text")
        return name

    def _candidate(self, sample: _Sample, image: tarfile.TarInfo, base: Path) -> Candidate:
        facts = {
            name: sample.facts[name] for name, kind in CARRIED_FACTS.items() if type(sample.facts.get(name)) is kind
        }
        if self._licence:
            facts.setdefault("licence", self._licence)
        return Candidate(
            source_uri=f"{sample.shard.as_posix()}::{image.name}",
            relative_path=f"{sample.shard.relative_to(base).as_posix()}::{image.name}",
            version=f"{image.size}:{sample.shard.stat().st_mtime_ns}",
            locator=f"{sample.shard.as_posix()}::{image.offset_data}+{image.size}",
            facts=facts,
        )


def _samples(shard: Path) -> Iterator[_Sample]:
    """Yield samples: adjacent members with the same name up to the first dot, as webdataset reads them."""
    current: _Sample | None = None
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if current is None or current.key != key:
                    if current is not None:
                        yield current
                    current = _Sample(shard, key)
                if suffix.lower() in IMAGE_SUFFIXES and current.image is None:
                    current.image = member
                elif suffix.lower() == "json" and member.size <= MAX_JSON_BYTES:
                    current.facts = _json_object(tar, member)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceError(f"source.path: {shard}: not a readable tar: {error}") from error
    if current is not None:
        yield current


def _json_object(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    file = tar.extractfile(member)
    try:
        value = json.loads(file.read()) if file else {}
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SourceError(f"source.path: {tar.name!r}: {member.name} is not JSON: {error}") from error
    return value if isinstance(value, dict) else {}
