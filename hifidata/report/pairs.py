"""The picture to judge another one by: its nearest copy, or its person's most typical picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from hifidata.config.sections import STAGES
from hifidata.core.schema import Row, Status
from hifidata.report.manifests import Manifests

_AFTER_DEDUP = tuple(STAGES)[tuple(STAGES).index("dedup") + 1 :]


def nearest_copies(manifests: Manifests, rows: Sequence[Row]) -> dict[str, str]:
    """The picture that a passed one was found nearest to, by image_id; those without a match are left out.

    The manifest names a copy only of near-duplicates; of others it holds the distance, and the hashes tell to what.

    Args:
        manifests: of the dataset.
        rows: columns image_id, identity_id, phash and duplicate_distance_bits.
    """
    of_them = pc.field("identity_id").isin(pa.array(sorted({row["identity_id"] for row in rows}), pa.string()))
    passed = (pc.field("status") == str(Status.KEPT)) | pc.field("stage").isin(list(_AFTER_DEDUP))
    others = manifests.images(["image_id", "identity_id", "phash"], of_them & passed & pc.field("phash").is_valid())
    by_person: dict[str, list[Row]] = {}
    for other in others.sort_by("image_id").to_pylist():
        by_person.setdefault(other["identity_id"], []).append(other)
    found = {}
    for row in rows:
        if row["phash"] is None:
            continue
        for other in by_person.get(row["identity_id"], ()):
            is_itself = other["image_id"] == row["image_id"]
            if not is_itself and _bits(row["phash"], other["phash"]) == row["duplicate_distance_bits"]:
                found[row["image_id"]] = other["image_id"]
                break
    return found


def most_typical(manifests: Manifests, identity_ids: Iterable[str]) -> dict[str, str]:
    """The picture most similar to the person's centre, by identity_id."""
    of_them = pc.field("identity_id").isin(pa.array(sorted(identity_ids), pa.string()))
    rows = manifests.images(["image_id", "identity_id", "similarity"], of_them & pc.field("similarity").is_valid())
    ranked = rows.sort_by([("similarity", "ascending"), ("image_id", "ascending")])
    # Later entries win, so each identity ends with its highest similarity.
    return dict(zip(ranked["identity_id"].to_pylist(), ranked["image_id"].to_pylist(), strict=True))


def _bits(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()
