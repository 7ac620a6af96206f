"""Identities from tars.

webdataset reads tars as one forward stream. Resuming inside a pack and sharing a pack between workers need to skip whole
identities without reading their images, so this module reads the headers with ``tarfile``. It also avoids webdataset's
``pipe:`` addresses and its unpickling of members.
"""

from __future__ import annotations

import glob
import hashlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hifidata.core.json_file import read_object
from hifimodel.data.checks import ShardChecks
from hifimodel.data.config import Counts
from hifimodel.errors import DataError

FORMAT_VERSION = 1
"""Version of the shard format that this package reads."""
WANTED = frozenset({"jpg", "txt", "json", "embedding.npy", "landmarks.npy", "face3d.npz", "alpha.png"})
MAX_MEMBER_BYTES = 64 * 2**20
BLOCK_BYTES = 512
DAMAGE = (tarfile.TarError, EOFError, OSError, ValueError, OverflowError)
"""Errors of tarfile for damaged bytes; the last two come from numbers in a header."""


@dataclass(frozen=True)
class RawIdentity:
    """The samples of one identity in a tar.

    Attributes:
        ordinal: index among the identities of the tar.
        samples: (key, member bytes by suffix), in order.
    """

    identity_id: str
    ordinal: int
    samples: list[tuple[str, dict[str, bytes]]]


def find_shards(where: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return all tars of the given folders, files and patterns, sorted, each once.

    Raises:
        DataError: no tars, or a dataset of another format version.
    """
    places = [where] if isinstance(where, (str, Path)) else list(where)
    found = sorted({path.absolute() for place in places for path in _tars(Path(place))})
    if not found:
        shown = ", ".join(str(place) for place in places) or "an empty list"
        raise DataError(
            f"shards: {shown}: no tar found; give a dataset folder, a folder of tars, or a quoted pattern such as "
            "'datasets/demo/shards/**/*.tar'"
        )
    for folder in sorted({parent for path in found for parent in list(path.parents)[:3]}):
        _check_version(folder / "dataset.json")
    return found


def digest(shards: Sequence[Path]) -> str:
    """Return a short hex digest of names and sizes of the tars; equal digests give equal streams."""
    base = Path(os.path.commonpath([path.parent for path in shards]))
    lines = [f"{path.relative_to(base).as_posix()} {path.stat().st_size}" for path in shards]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def read_identities(
    shard: Path,
    start: int = 0,
    share: tuple[int, int] = (0, 1),
    counts: Counts | None = None,
    checks: ShardChecks | None = None,
) -> Iterator[RawIdentity]:
    """Yield the identities of a tar, one in memory at a time.

    Args:
        shard: a tar in which the samples of an identity, and the members of a sample, are contiguous.
        start: ordinal of the first identity to read.
        share: (part, parts): only identities with ``ordinal % parts == part`` are read.
        counts: updated with the shard, and whether it is damaged. The readable part of a damaged tar is still returned.
        checks: a tar that differs from dataset.json counts as damaged, and nothing of it is returned.
    """
    part, parts = share
    counts = Counts() if counts is None else counts
    counts.shards += 1
    if checks is not None and checks.is_altered(shard):
        counts.damaged_shards += 1
        return
    try:
        with open(shard, "rb") as file:
            for ordinal, (identity_id, members) in enumerate(_headers(file)):
                if ordinal >= start and ordinal % parts == part:
                    yield RawIdentity(identity_id, ordinal, _read(file, members))
    except DAMAGE:
        counts.damaged_shards += 1


def _tars(place: Path) -> list[Path]:
    if place.is_dir():
        inside = place / "shards"
        found = (inside if inside.is_dir() else place).rglob("*.tar")
        return [path for path in found if path.is_file() and not path.name.startswith(".")]
    if place.is_file():  # also a name with characters of a pattern
        return [place]
    return [path for name in glob.glob(str(place), recursive=True) if (path := Path(name)).is_file()]


def _check_version(path: Path) -> None:
    try:
        version = read_object(path)["format_version"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run `hifidata run` again") from error
    require_version(version, str(path))


def require_version(version: object, where: str) -> None:
    """Raise DataError unless this package reads the version."""
    if version != FORMAT_VERSION:
        raise DataError(
            f"{where}: format version {version}, expected {FORMAT_VERSION}; build the dataset with hifidata of this release, "
            "or use hifimodel of the other release"
        )


def _headers(file: BinaryIO) -> Iterator[tuple[str, list[tarfile.TarInfo]]]:
    """Yield (identity id, its members) per contiguous identity; raises after the last readable one if the tar is damaged."""
    current, members = "", list[tarfile.TarInfo]()
    damage: Exception | None = None
    with tarfile.open(fileobj=file, mode="r:") as tar:
        try:
            while member := tar.next():
                if member.size < 0:
                    raise tarfile.ReadError("negative size")  # an older tarfile would seek backwards in an endless loop
                key, _, suffix = _split(member)
                identity_id = key.rpartition("_")[0]
                if not identity_id or suffix not in WANTED or not member.isreg():
                    continue
                if identity_id != current and members:
                    yield current, members
                    members = []
                current = identity_id
                members.append(member)
        except DAMAGE as error:
            damage = error
        if members:
            yield current, members
        # tarfile treats a damaged or missing header as the end of the archive; the real end is a block of zeros.
        file.seek(tar.offset)
        if damage or file.read(BLOCK_BYTES) != bytes(BLOCK_BYTES):
            raise damage or tarfile.ReadError("no end of archive")


def _split(member: tarfile.TarInfo) -> tuple[str, str, str]:
    """Split into (key, dot, suffix) at the first dot, as webdataset does."""
    return member.name.rpartition("/")[2].partition(".")


def _read(file: BinaryIO, members: Sequence[tarfile.TarInfo]) -> list[tuple[str, dict[str, bytes]]]:
    samples: dict[str, dict[str, bytes]] = {}
    for member in members:
        key, _, suffix = _split(member)
        parts = samples.setdefault(key, {})
        if member.size <= MAX_MEMBER_BYTES:
            file.seek(member.offset_data)
            data = file.read(member.size)
            if len(data) == member.size:  # else truncated: the member counts as missing
                parts[suffix] = data
    return list(samples.items())
