"""Images nearest to a threshold, on both sides, so that a reader can judge the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hifidata.core.reasons import Limit, Reason


@dataclass(frozen=True)
class ScoredImage:
    """An image and the score that is compared with the threshold; None without a score."""

    image_id: str
    score: float | None


@dataclass(frozen=True)
class NearThreshold:
    """Images around the threshold of one reason, nearest first.

    Attributes:
        threshold: the threshold; None if the reason compares no score, or the threshold was not recorded.
        dropped: images that were dropped or failed for the reason; in order of image id without a threshold.
        passed: images that passed the comparison; empty without a threshold.
    """

    threshold: float | None
    dropped: tuple[ScoredImage, ...]
    passed: tuple[ScoredImage, ...]


def with_derived(images: pa.Table) -> pa.Table:
    """Add ``crop_side_px``, ``short_side_px`` and ``aspect``, computed from other columns of the manifest."""
    width, height = images["width_px"], images["height_px"]
    long_px, short_px = pc.max_element_wise(width, height), pc.min_element_wise(width, height)
    aspect = pc.divide(pc.cast(long_px, pa.float64()), pc.cast(short_px, pa.float64()))
    return (
        images.append_column("crop_side_px", pc.subtract(images["crop_x2_px"], images["crop_x1_px"]))
        .append_column("short_side_px", short_px)
        .append_column("aspect", aspect)
    )


def threshold_used(images: pa.Table, reason: Reason, recipe: Mapping[str, Any]) -> float | None:
    """Return the threshold in the rows of a reason, otherwise the recipe's threshold, otherwise None.

    Rows have priority: if the recipe leaves the threshold to the model, only the rows contain it.
    """
    of_reason = images["threshold"].filter(pc.equal(images["reason"], str(reason)))
    modes = pc.mode(of_reason, n=1)
    if len(modes):
        return float(modes[0]["mode"].as_py())
    section, _, key = reason.limit.setting.partition(".") if reason.limit else ("", "", "")
    value = (recipe.get(section) or {}).get(key)
    return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else None


def around_threshold(images: pa.Table, reason: Reason, recipe: Mapping[str, Any], max_images: int) -> NearThreshold:
    """Select the images nearest to the threshold of a reason.

    Args:
        images: the summary columns with ``with_derived``.
        reason: the reason.
        recipe: resolved recipe, for thresholds that no row contains.
        max_images: maximum number of images per side.
    """
    threshold = threshold_used(images, reason, recipe)
    has_reason = pc.fill_null(pc.equal(images["reason"], str(reason)), False)
    dropped = images.filter(has_reason)
    limit = reason.limit
    if limit is None:
        nearest = _nearest(dropped, "score", threshold, max_images)
        return NearThreshold(None, tuple(ScoredImage(image.image_id, None) for image in nearest), ())
    if threshold is None or images[limit.column].null_count == images.num_rows:  # a model may give no score
        return NearThreshold(None, _nearest(dropped, limit.column, None, max_images), ())
    passed = images.filter(pc.and_(_passes(images[limit.column], limit, threshold), pc.invert(has_reason)))
    return NearThreshold(
        threshold,
        _nearest(dropped, limit.column, threshold, max_images),
        _nearest(passed, limit.column, threshold, max_images),
    )


def _passes(scores: pa.ChunkedArray, limit: Limit, threshold: float) -> pa.ChunkedArray:
    """Return whether each score passes; null where the score is null."""
    if limit.drops in ("below", "up to"):
        return pc.greater_equal(scores, threshold)
    below = pc.less_equal(scores, threshold) if limit.drops == "above" else pc.less(scores, threshold)
    return pc.and_(
        below, pc.greater(scores, 0)
    )  # a score of 0 (no text, hand or second face) is not near the threshold


def _nearest(rows: pa.Table, column: str, threshold: float | None, max_images: int) -> tuple[ScoredImage, ...]:
    scores = pc.cast(rows[column], pa.float64())
    gap = pc.abs(pc.subtract(scores, pa.scalar(threshold, pa.float64())))
    ranked = pa.table({"image_id": rows["image_id"], "score": scores, "gap": gap})
    order = pc.sort_indices(ranked, sort_keys=[("gap", "ascending"), ("image_id", "ascending")])[:max_images]
    return tuple(ScoredImage(row["image_id"], row["score"]) for row in ranked.take(order).to_pylist())
