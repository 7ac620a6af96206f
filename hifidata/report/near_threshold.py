"""The pictures worth looking at: those nearest the threshold, on both sides of it.

A threshold is right where the pictures just below it deserved to go and those just above it deserved to stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from hifidata.core.schema import Reason


@dataclass(frozen=True)
class NumericTest:
    """A reason that compares one number with one threshold.

    Attributes:
        reason: what rows that failed carry.
        column: a manifest column, or one that ``with_derived`` adds.
        drops: the side that is dropped.
        setting: recipe section and key of the threshold.
        label: what the number is, in words.
        unit: written after the number; ratios have none.
    """

    reason: Reason
    column: str
    drops: Literal["below", "up to", "above", "at or above"]
    setting: tuple[str, str]
    label: str
    unit: str = ""


NUMERIC_TESTS: dict[str, NumericTest] = {
    str(test.reason): test
    for test in (
        NumericTest(Reason.TOO_SMALL, "short_side_px", "below", ("intake", "min_side_px"), "shorter side", " px"),
        NumericTest(Reason.BAD_ASPECT, "aspect", "above", ("intake", "max_aspect"), "long over short side"),
        NumericTest(
            Reason.SEVERAL_FACES, "other_face_area_ratio", "above", ("detect", "other_face_min_area_ratio"),
            "second face over main face",
        ),
        NumericTest(
            Reason.FACE_CUT_OFF, "face_inside_ratio", "below", ("detect", "min_face_inside"), "share of the face inside"
        ),
        NumericTest(
            Reason.FACE_MISMATCH, "listed_face_iou", "below", ("detect", "min_listed_iou"), "overlap with the list's box"
        ),
        NumericTest(
            Reason.FACE_SHARE_TOO_LOW, "face_area_ratio", "below", ("crop", "min_face_share"), "face share of the crop"
        ),
        NumericTest(Reason.CROP_TOO_SMALL, "crop_side_px", "below", ("crop", "min_side_px"), "crop side", " px"),
        NumericTest(Reason.LOW_QUALITY, "quality_score", "below", ("quality", "min_score"), "quality"),
        NumericTest(
            Reason.TEXT_ON_FACE, "text_overlap", "above", ("watermark", "max_text_overlap"), "face covered by text"
        ),
        NumericTest(
            Reason.OCCLUDED, "occlusion_score", "at or above", ("occlusion", "min_score"),
            "certainty that something covers the face",
        ),
        NumericTest(
            Reason.NEAR_DUPLICATE, "duplicate_distance_bits", "up to", ("dedup", "max_distance_bits"),
            "distance to the better copy", " bits",
        ),
        NumericTest(Reason.OTHER_PERSON, "similarity", "below", ("verify", "min_similarity"), "similarity"),
    )
}  # fmt: skip


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


def threshold_used(images: pa.Table, reason: str, recipe: Mapping[str, Any]) -> float | None:
    """The threshold that rows of this reason were compared with, else the recipe's, else None.

    Rows come first: where a recipe leaves a threshold to the model, only the rows know the number.
    """
    of_reason = images["threshold"].filter(pc.equal(images["reason"], reason))
    modes = pc.mode(of_reason, n=1)
    if len(modes):
        return float(modes[0]["mode"].as_py())
    test = NUMERIC_TESTS.get(reason)
    value = (recipe.get(test.setting[0]) or {}).get(test.setting[1]) if test else None
    return float(value) if isinstance(value, int | float) else None


def around_threshold(images: pa.Table, reason: str, recipe: Mapping[str, Any], limit: int) -> Sides:
    """At most ``limit`` pictures on each side of a reason's threshold.

    Args:
        images: the summary columns with ``with_derived``.
        reason: the reason to look at.
        recipe: resolved recipe, for thresholds that no row carries.
        limit: pictures per side.
    """
    cut = threshold_used(images, reason, recipe)
    ended_here = pc.fill_null(pc.equal(images["reason"], reason), False)
    test = NUMERIC_TESTS.get(reason)
    if test is None:
        picks = _nearest(images.filter(ended_here), "score", cut, limit)
        return Sides(None, tuple(Pick(pick.image_id, None) for pick in picks), ())
    if cut is None or images[test.column].null_count == images.num_rows:  # a model need not give its score
        return Sides(None, _nearest(images.filter(ended_here), test.column, None, limit), ())
    passed = images.filter(pc.and_(_passes(images[test.column], test, cut), pc.invert(ended_here)))
    return Sides(
        cut,
        _nearest(images.filter(ended_here), test.column, cut, limit),
        _nearest(passed, test.column, cut, limit),
    )


def _passes(values: pa.ChunkedArray, test: NumericTest, cut: float) -> pa.ChunkedArray:
    """Null where nothing was measured."""
    if test.drops in ("below", "up to"):
        return pc.greater_equal(values, cut)
    below = pc.less_equal(values, cut) if test.drops == "above" else pc.less(values, cut)
    return pc.and_(below, pc.greater(values, 0))  # no text, no hand and no second face is no close call


def _nearest(rows: pa.Table, column: str, cut: float | None, limit: int) -> tuple[Pick, ...]:
    values = pc.cast(rows[column], pa.float64())
    gap = pc.abs(pc.subtract(values, pa.scalar(cut, pa.float64())))
    ranked = pa.table({"image_id": rows["image_id"], "value": values, "gap": gap})
    order = pc.sort_indices(ranked, sort_keys=[("gap", "ascending"), ("image_id", "ascending")])[:limit]
    return tuple(Pick(row["image_id"], row["value"]) for row in ranked.take(order).to_pylist())
