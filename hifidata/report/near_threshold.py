"""The pictures worth looking at: those nearest the threshold, on both sides of it.

A threshold is right where the pictures just below it deserved to go and those just above it deserved to stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hifidata.core.reasons import Limit, Reason


@dataclass(frozen=True)
class Pick:
    """A picture and the number that a threshold was compared with (None where there is none)."""

    image_id: str
    value: float | None


@dataclass(frozen=True)
class Sides:
    """Pictures around one threshold, nearest first.

    Attributes:
        cut: the threshold in force; None where the reason has no number of its own, or nobody recorded the threshold.
        dropped: pictures that ended for the reason, the nearest first; without a threshold, by image id.
        passed: pictures that took this test and passed; empty where there is no threshold.
    """

    cut: float | None
    dropped: tuple[Pick, ...]
    passed: tuple[Pick, ...]


def with_derived(images: pa.Table) -> pa.Table:
    """Adds ``crop_side_px``, ``short_side_px`` and ``aspect``, which the manifest holds only in parts."""
    width, height = images["width_px"], images["height_px"]
    long_px, short_px = pc.max_element_wise(width, height), pc.min_element_wise(width, height)
    aspect = pc.divide(pc.cast(long_px, pa.float64()), pc.cast(short_px, pa.float64()))
    return (
        images.append_column("crop_side_px", pc.subtract(images["crop_x2_px"], images["crop_x1_px"]))
        .append_column("short_side_px", short_px)
        .append_column("aspect", aspect)
    )


def threshold_used(images: pa.Table, reason: Reason, recipe: Mapping[str, Any]) -> float | None:
    """The threshold that rows of this reason were compared with, else the recipe's, else None.

    Rows come first: where a recipe leaves a threshold to the model, only the rows know the number.
    """
    of_reason = images["threshold"].filter(pc.equal(images["reason"], str(reason)))
    modes = pc.mode(of_reason, n=1)
    if len(modes):
        return float(modes[0]["mode"].as_py())
    section, _, key = reason.limit.setting.partition(".") if reason.limit else ("", "", "")
    value = (recipe.get(section) or {}).get(key)
    return float(value) if isinstance(value, int | float) else None


def around_threshold(images: pa.Table, reason: Reason, recipe: Mapping[str, Any], limit: int) -> Sides:
    """At most ``limit`` pictures on each side of a reason's threshold.

    Args:
        images: the summary columns with ``with_derived``.
        reason: the reason to look at.
        recipe: resolved recipe, for thresholds that no row carries.
        limit: pictures per side.
    """
    cut = threshold_used(images, reason, recipe)
    ended_here = pc.fill_null(pc.equal(images["reason"], str(reason)), False)
    limit_of = reason.limit
    if limit_of is None:
        picks = _nearest(images.filter(ended_here), "score", cut, limit)
        return Sides(None, tuple(Pick(pick.image_id, None) for pick in picks), ())
    if cut is None or images[limit_of.column].null_count == images.num_rows:  # a model need not give its score
        return Sides(None, _nearest(images.filter(ended_here), limit_of.column, None, limit), ())
    passed = images.filter(pc.and_(_passes(images[limit_of.column], limit_of, cut), pc.invert(ended_here)))
    return Sides(
        cut,
        _nearest(images.filter(ended_here), limit_of.column, cut, limit),
        _nearest(passed, limit_of.column, cut, limit),
    )


def _passes(values: pa.ChunkedArray, limit: Limit, cut: float) -> pa.ChunkedArray:
    """Null where nothing was measured."""
    if limit.drops in ("below", "up to"):
        return pc.greater_equal(values, cut)
    below = pc.less_equal(values, cut) if limit.drops == "above" else pc.less(values, cut)
    return pc.and_(below, pc.greater(values, 0))  # no text, no hand and no second face is no close call


def _nearest(rows: pa.Table, column: str, cut: float | None, limit: int) -> tuple[Pick, ...]:
    values = pc.cast(rows[column], pa.float64())
    gap = pc.abs(pc.subtract(values, pa.scalar(cut, pa.float64())))
    ranked = pa.table({"image_id": rows["image_id"], "value": values, "gap": gap})
    order = pc.sort_indices(ranked, sort_keys=[("gap", "ascending"), ("image_id", "ascending")])[:limit]
    return tuple(Pick(row["image_id"], row["value"]) for row in ranked.take(order).to_pylist())
