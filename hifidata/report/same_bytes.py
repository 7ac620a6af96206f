"""Images whose bytes belong to two or more identities: one of the names is wrong, or one person has two."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from hifidata.core.schema import Status

COLUMNS = ("content_sha256", "identity_id", "identity_name", "status", "width_px")
MAX_ROWS = 100_000
GROUPS_SHOWN = 30
NAMES_SHOWN = 10


@dataclass(frozen=True)
class SameBytes:
    """Images with the same bytes under several identities.

    Attributes:
        n_images: number of different images.
        n_kept: those that were kept under two or more identities.
        n_identities: identities with such images.
        groups: names of the identities that share images, and the number of images; the largest number first.
    """

    n_images: int
    n_kept: int
    n_identities: int
    groups: tuple[tuple[tuple[str, ...], int], ...]


def same_bytes(images: pa.Table) -> SameBytes:
    """Find images with the same bytes under several identities. Files that are no image are left out.

    Args:
        images: the columns ``COLUMNS`` of images.parquet.
    """
    images = images.filter(pc.and_(pc.is_valid(images["content_sha256"]), pc.is_valid(images["width_px"])))
    shared = _shared(images)
    found = images.filter(pc.is_in(images["content_sha256"], value_set=shared))
    names_of: defaultdict[str, set[str]] = defaultdict(set)
    rows = found.slice(0, MAX_ROWS)
    for digest, identity_id, name in zip(
        *(rows[column].to_pylist() for column in ("content_sha256", "identity_id", "identity_name")), strict=True
    ):
        names_of[digest].add(name or identity_id)
    groups = Counter(tuple(sorted(names)[:NAMES_SHOWN]) for names in names_of.values())
    ordered = sorted(groups.items(), key=lambda item: (-item[1], item[0]))
    n_kept = len(_shared(found.filter(pc.equal(found["status"], Status.KEPT))))
    return SameBytes(
        len(shared), n_kept, pc.count_distinct(found["identity_id"]).as_py(), tuple(ordered[:GROUPS_SHOWN])
    )


def _shared(images: pa.Table) -> pa.Array:
    """Return the digests of images that several identities have."""
    counts = images.group_by("content_sha256").aggregate([("identity_id", "count_distinct")])
    shared = counts.filter(pc.greater(counts["identity_id_count_distinct"], 1))
    return shared["content_sha256"].combine_chunks()
