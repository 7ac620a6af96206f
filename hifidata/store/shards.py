"""WebDataset shards: one tar per identity. The same samples give the same bytes."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hifidata.core.files import atomic_file, file_sha256
from hifidata.core.licence import shard_licence
from hifidata.core.schema import FORMAT_VERSION, Row

KEY = re.compile(r"[0-9a-f]{16}_[0-9]{4,}")
TRAINING_COLUMNS = (
    "image_id", "identity_id", "content_sha256", "licence", "width_px", "height_px",
    "face_x1_px", "face_y1_px", "face_x2_px", "face_y2_px", "face_score", "face_kps", "face_area_ratio",
    "crop_x1_px", "crop_y1_px", "crop_x2_px", "crop_y2_px", "yaw_deg", "pitch_deg", "roll_deg",
    "quality_score", "quality_model", "similarity", "embedding_model", "restored", "restore_cosine",
    "caption_model", "age", "gender", "gender_source", "matting_model",
)  # fmt: skip
"""Manifest columns in the sample's ``.json``, for training. They contain no names, URLs or local paths; ``licence`` is
``shard_licence`` of the manifest's text."""


@dataclass(frozen=True)
class ShardInfo:
    """Digest, size and sample count of a shard."""

    sha256: str
    n_bytes: int
    n_samples: int


def members_of(row: Row, portrait_jpeg: bytes, extras: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Build the members of a sample by suffix.

    Args:
        row: manifest row of the kept image.
        portrait_jpeg: encoded portrait.
        extras: members that stages made, such as ``alpha.png``.
    """
    facts = {"format_version": FORMAT_VERSION} | {name: row.get(name) for name in TRAINING_COLUMNS}
    facts["licence"] = shard_licence(row.get("licence"))
    members = {
        **(extras or {}),
        "jpg": portrait_jpeg,
        "json": json.dumps(facts, sort_keys=True, ensure_ascii=False, default=_plain).encode(),
    }
    if row.get("caption") is not None:
        members["txt"] = row["caption"].encode()
    if row.get("embedding") is not None:
        members["embedding.npy"] = _npy(np.asarray(row["embedding"], np.float32))
    if row.get("portrait_landmarks") is not None:
        members["landmarks.npy"] = _npy(np.asarray(row["portrait_landmarks"], np.float32).reshape(-1, 2))
    if row.get("face3d_model") is not None:
        members["face3d.npz"] = _npz(row)
    return members


def write_shard(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> ShardInfo:
    """Write a tar of (key, members) samples atomically.

    Members are sorted, mtime, uid and gid are 0, and the format is USTAR: the bytes depend only on the samples.

    Raises:
        ValueError: a key is not ``<16 hex>_<4 or more digits>``, or is repeated. webdataset would split such a
            sample or merge two samples.
    """
    n_samples, seen = 0, set()
    with atomic_file(path) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for key, members in samples:
                if not KEY.fullmatch(key) or key in seen:
                    raise ValueError(f"shard {path.name}: sample key {key!r} is malformed or repeated")
                seen.add(key)
                n_samples += 1
                for suffix in sorted(members):
                    info = tarfile.TarInfo(f"{key}.{suffix}")
                    info.size, info.mode, info.mtime = len(members[suffix]), 0o444, 0
                    tar.addfile(info, io.BytesIO(members[suffix]))
        file.flush()
        return ShardInfo(file_sha256(Path(file.name)), file.tell(), n_samples)


def read_samples(path: Path) -> list[tuple[str, dict[str, bytes]]]:
    """Read all samples of a shard that ``write_shard`` made, in order."""
    samples: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            file = tar.extractfile(member)
            if file is not None:
                samples.setdefault(key, {})[suffix] = file.read()
    return list(samples.items())


def pack(shards: Sequence[Path], folder: Path, max_bytes: int) -> dict[Path, tuple[Path, ShardInfo]]:
    """Pack whole identities, contiguous and in the given order, into ``pack-000000.tar`` and so on.

    Args:
        shards: tars of one identity each.
        folder: folder of the packs.
        max_bytes: maximum size of a pack; a larger identity gets its own pack.

    Returns:
        For each input shard, its pack and the pack's ``ShardInfo``.
    """
    batches: list[list[Path]] = []
    room = 0
    for shard in shards:
        size = shard.stat().st_size
        if not batches or size > room:
            batches.append([])
            room = max_bytes
        batches[-1].append(shard)
        room -= size
    placed: dict[Path, tuple[Path, ShardInfo]] = {}
    for number, batch in enumerate(batches):
        target = folder / f"pack-{number:06d}.tar"
        info = write_shard(target, (sample for shard in batch for sample in read_samples(shard)))
        placed |= dict.fromkeys(batch, (target, info))
    return placed


def unpack(packs: Iterable[Path], wanted: Mapping[str, Path]) -> None:
    """Extract the tars of some identities from packs, each to ``wanted[identity_id]``.

    A damaged pack gives wrong tars or none: the caller compares their sha256.
    """
    for packed in packs if wanted else ():
        identities: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        with suppress(tarfile.TarError, ValueError):
            for key, members in read_samples(packed):
                identities.setdefault(key.partition("_")[0], []).append((key, members))
            for identity_id in identities.keys() & wanted.keys():
                write_shard(wanted[identity_id], identities[identity_id])


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _npz(row: Row) -> bytes:
    # numpy.savez dates all members 1980, so the bytes depend only on the arrays.
    shape, expression, pose, camera = (
        np.asarray(row[f"face3d_{part}"], np.float32) for part in ("shape", "expression", "pose", "camera")
    )
    buffer, model = io.BytesIO(), np.array(row["face3d_model"])
    np.savez(buffer, shape=shape, expression=expression, pose=pose, camera=camera, model=model)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    return value.tolist()  # NumPy scalars and arrays
