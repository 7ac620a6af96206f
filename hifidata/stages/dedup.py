"""Near-duplicates inside one identity: identical bytes, or similar perceptual hashes. The best copy is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hifidata.config.sections import DedupConfig
from hifidata.core.reasons import Limit, Reason
from hifidata.core.schema import Column, Row, Verdict
from hifidata.image.phash import distance_bits
from hifidata.stages.base import Columns, Stage

SCORE_STEP = 0.05
"""Quality scores (0 to 1) are compared in steps of this size."""


DUPLICATE_BYTES = Reason("duplicate_bytes", "Same file twice", "Another image of this identity has the same bytes.")
NEAR_DUPLICATE = Reason(
    "near_duplicate",
    "Near-duplicate",
    "The image is almost identical to a better image of this identity, which was kept.",
    limit=Limit("duplicate_distance_bits", "up to", "dedup.max_distance_bits", "distance to the better copy", " bits"),
)


class Dedup(Stage):
    """Visits the images from best to worst and drops each copy of a better image."""

    name = "dedup"
    title = "Near-duplicates"
    does = "Images of one identity are compared by perceptual hash; the best copy is kept."
    not_run = "Near-duplicates were not searched: the recipe disables this stage."
    columns = (
        Column("duplicate_of", "string", "image_id of the better copy, which was kept"),
        Column(
            "duplicate_distance_bits", "int32", "Hamming distance to the perceptual hash of the nearest better image"
        ),
        Column("duplicate_same_bytes", "bool", "the better copy has the same bytes"),
    )
    reasons = (DUPLICATE_BYTES, NEAR_DUPLICATE)
    scope = "identity"
    required_columns = ("phash",)
    replayable = ("max_distance_bits",)

    @staticmethod
    def derive(rows: Sequence[Row], config: DedupConfig) -> Columns:
        """Find the better copy of each row, and the distance of the two hashes.

        ``_rank`` defines the best image; ties go to the first in source order. The distance to the nearest better image is
        recorded even above the limit.
        """
        order = sorted(range(len(rows)), key=lambda i: _rank(rows[i]))
        copies: list[str | None] = [None] * len(rows)
        distances: list[int | None] = [None] * len(rows)
        kept: list[int] = []
        for i in order:
            same = [j for j in kept if rows[j]["content_sha256"] == rows[i]["content_sha256"]]
            near = [(distance_bits(rows[i]["phash"], rows[j]["phash"]), j) for j in kept]
            distance, nearest = (0, same[0]) if same else min(near, default=(None, None))
            distances[i] = distance
            if nearest is not None and distance is not None and distance <= config.max_distance_bits:
                copies[i] = rows[nearest]["image_id"]
            else:
                kept.append(i)
        by_id = {row["image_id"]: row for row in rows}
        same_bytes = [
            copy is not None and by_id[copy]["content_sha256"] == row["content_sha256"]
            for row, copy in zip(rows, copies, strict=True)
        ]
        return {"duplicate_of": copies, "duplicate_distance_bits": distances, "duplicate_same_bytes": same_bytes}

    @staticmethod
    def decide(row: Mapping[str, Any], config: DedupConfig) -> Verdict | None:
        """Drop a copy of a better image."""
        if row["duplicate_of"] is None:
            return None
        if row["duplicate_same_bytes"]:
            return Verdict(DUPLICATE_BYTES, 0, None, f"same bytes as {row['duplicate_of']}")
        distance = row["duplicate_distance_bits"]
        message = f"{distance} of 64 bits of the perceptual hash differ from {row['duplicate_of']}"
        return Verdict(NEAR_DUPLICATE, distance, config.max_distance_bits, message)


def _rank(row: Row) -> tuple[float, ...]:
    """Return the sort key; smaller is better: stepped quality score, colour, crop side, bytes per pixel, exact score.

    Small score differences between copies of one photo are not meaningful: compression blocks even count as sharpness.
    """
    score = row.get("quality_score") or 0.0
    pixels = (row.get("width_px") or 0) * (row.get("height_px") or 0)
    density = (row.get("original_bytes") or 0) / max(pixels, 1)
    crop_side = row["crop_x2_px"] - row["crop_x1_px"]
    return -round(score / SCORE_STEP), bool(row.get("is_monochrome")), -crop_side, -density, -score
