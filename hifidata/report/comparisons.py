"""Comparison images: the nearest copy of an image, or the image nearest to the identity's centre."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from hifidata.config.sections import STAGES
from hifidata.core.schema import Row, Status
from hifidata.report.manifests import Manifests

_AFTER_DEDUP = tuple(STAGES)[tuple(STAGES).index("dedup") + 1 :]


def nearest_copies(manifests: Manifests, rows: Sequence[Row]) -> dict[str, str]:
    """Find the nearest copy of images that passed deduplication.

    The manifest names the copy only for near-duplicates. For passed images it has the distance, so the perceptual hashes
    identify the copy.

    Args:
        manifests: manifests of the dataset.
        rows: columns image_id, identity_id, phash and duplicate_distance_bits.

    Returns:
        image_id of the copy by image_id; images without a match are missing.
    """
    of_identities = pc.field("identity_id").isin(pa.array(sorted({row["identity_id"] for row in rows}), pa.string()))
    passed = (pc.field("status") == str(Status.KEPT)) | pc.field("stage").isin(list(_AFTER_DEDUP))
    others = manifests.images(
        ["image_id", "identity_id", "phash"], of_identities & passed & pc.field("phash").is_valid()
    )
    by_identity: dict[str, list[Row]] = {}
    for other in others.sort_by("image_id").to_pylist():
        by_identity.setdefault(other["identity_id"], []).append(other)
    found = {}
    for row in rows:
        if row["phash"] is None:
            continue
        for other in by_identity.get(row["identity_id"], ()):
            is_same = other["image_id"] == row["image_id"]
            if not is_same and _distance_bits(row["phash"], other["phash"]) == row["duplicate_distance_bits"]:
                found[row["image_id"]] = other["image_id"]
                break
    return found


def most_typical(manifests: Manifests, identity_ids: Iterable[str]) -> dict[str, str]:
    """Find the image that is most similar to the identity's centre; returns image_id by identity_id."""
    of_identities = pc.field("identity_id").isin(pa.array(sorted(identity_ids), pa.string()))
    rows = manifests.images(
        ["image_id", "identity_id", "similarity"], of_identities & pc.field("similarity").is_valid()
    )
    ranked = rows.sort_by([("similarity", "ascending"), ("image_id", "ascending")])
    # dict keeps the last entry of an identity, which has the highest similarity.
    return dict(zip(ranked["identity_id"].to_pylist(), ranked["image_id"].to_pylist(), strict=True))


def _distance_bits(first: str, second: str) -> int:
    return (int(first, 16) ^ int(second, 16)).bit_count()
