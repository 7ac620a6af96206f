"""Near-duplicates inside one identity: the same bytes, then the same look. The best of them stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hifidata.config.sections import DedupConfig
from hifidata.core.reasons import Limit, Reason
from hifidata.core.schema import Column, Row, Verdict
from hifidata.image.phash import distance_bits
from hifidata.stages.base import Columns, Stage

SCORE_STEP = 0.05
"""Of the quality score, 0 to 1."""


DUPLICATE_BYTES = Reason("duplicate_bytes", "Same file twice", "This person already has a picture with the same bytes.")
NEAR_DUPLICATE = Reason(
    "near_duplicate",
    "Near-duplicate",
    "Almost the same picture as a better one of this person, which stayed.",
    limit=Limit("duplicate_distance_bits", "up to", "dedup.max_distance_bits", "distance to the better copy", " bits"),
)


class Dedup(Stage):
    """Walks the pictures from best to worst and drops each that repeats a better one."""

    name = "dedup"
    title = "Near-duplicates"
    does = "Pictures of one person are compared by perceptual hash, and the best copy stays."
    not_run = "Near-duplicates were not searched: the recipe switched it off."
    columns = (
        Column("duplicate_of", "string", "image_id of the better copy that was kept instead"),
        Column("duplicate_distance_bits", "int32", "Hamming distance of the perceptual hashes to that copy"),
        Column("duplicate_same_bytes", "bool", "that copy has the same bytes"),
    )
    reasons = (DUPLICATE_BYTES, NEAR_DUPLICATE)
    scope = "identity"
    needs = ("phash",)
    replayable = ("max_distance_bits",)

    @staticmethod
    def derive(rows: Sequence[Row], config: DedupConfig) -> Columns:
        """For each row the better copy it repeats, if any, and how far apart the two hashes are.

        Best is what ``_rank`` says, then the first in source order. How far the nearest copy is, is recorded even above the
        limit.
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
        """It repeats a better picture."""
        if row["duplicate_of"] is None:
            return None
        if row["duplicate_same_bytes"]:
            return Verdict(DUPLICATE_BYTES, 0, None, f"same bytes as {row['duplicate_of']}")
        distance = row["duplicate_distance_bits"]
        message = f"{distance} of 64 hash bits differ from {row['duplicate_of']}"
        return Verdict(NEAR_DUPLICATE, distance, config.max_distance_bits, message)


def _rank(row: Row) -> tuple[float, ...]:
    """Smaller is better: the quality score in steps, colour, pixels of the crop, bytes for each pixel, the score itself.

    Scores of copies of one shot differ by less than they tell: blocks of a strong compression even count as sharpness.
    """
    score = row.get("quality_score") or 0.0
    pixels = (row.get("width_px") or 0) * (row.get("height_px") or 0)
    density = (row.get("original_bytes") or 0) / max(pixels, 1)
    crop_side = row["crop_x2_px"] - row["crop_x1_px"]
    return -round(score / SCORE_STEP), bool(row.get("is_monochrome")), -crop_side, -density, -score
