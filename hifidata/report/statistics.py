"""Statistics of a dataset: pure functions from manifest columns to small dataclasses.

All functions are vectorised, so a manifest of a million candidates takes a few passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hifidata.core.schema import Status
from hifidata.report.words import Vocabulary

IMAGE_COLUMNS_READ = (
    "image_id", "status", "stage", "reason", "score", "threshold", "quality_score", "similarity", "text_overlap",
    "occlusion_score", "face_area_ratio", "face_inside_ratio", "other_face_area_ratio", "duplicate_distance_bits", "listed_face_iou",
    "crop_x1_px", "crop_x2_px", "width_px", "height_px", "age", "gender",
    "caption_model", "caption_problem", "caption_flags",
)  # fmt: skip
"""Columns of images.parquet for the functions here and in ``near_threshold``; without embeddings and long text."""

_HISTOGRAM_STARTS = (-1.0, -0.6, -0.2, 0.0, 0.6, 0.8)
"""Possible starts of a histogram that ends at 1; they make its four tick labels round numbers."""

DERIVED_COLUMNS = ("crop_side_px", "short_side_px", "aspect")
"""Columns added by ``near_threshold.with_derived``."""

IDENTITY_COLUMNS_READ = ("identity_id", "n_candidates", "n_kept", "shard", "shard_bytes")


def columns_read(words: Vocabulary) -> tuple[str, ...]:
    """Return ``IMAGE_COLUMNS_READ`` and the score columns of stages in other packages."""
    limits = (reason.limit for reason in words.reasons.values() if reason.limit)
    more = (limit.column for limit in limits if limit.column not in DERIVED_COLUMNS)
    return tuple(dict.fromkeys((*IMAGE_COLUMNS_READ, *more)))


@dataclass(frozen=True)
class Totals:
    """Counts of the dataset; ``candidates = kept + dropped + failed``."""

    identities: int
    identities_kept: int
    candidates: int
    kept: int
    dropped: int
    failed: int
    shards: int
    shard_bytes: int


@dataclass(frozen=True)
class StageCount:
    """One step of the funnel: ``n_kept`` of ``n_in`` images passed the stage.

    Attributes:
        ms_per_image: wall time per image that entered; None if it was not measured.
        ran: False if the recipe switched the stage off, so that all images passed.
    """

    stage: str
    n_in: int
    n_kept: int
    n_dropped: int
    n_failed: int
    ms_per_image: float | None
    ran: bool


@dataclass(frozen=True)
class ReasonCount:
    """Candidates that were dropped or failed for one reason, and the stages that gave the reason."""

    reason: str
    n_dropped: int
    n_failed: int
    stages: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of dropped and failed candidates."""
        return self.n_dropped + self.n_failed


@dataclass(frozen=True)
class Bar:
    """A bar of a chart: label and count."""

    label: str
    n: int


@dataclass(frozen=True)
class Distribution:
    """Counts of labelled classes, and the count of unknown values."""

    bars: tuple[Bar, ...]
    n_unknown: int

    @property
    def n_known(self) -> int:
        """Sum of the bars."""
        return sum(bar.n for bar in self.bars)


@dataclass(frozen=True)
class Captions:
    """Counts of kept images by caption model, by caption problem and by caption flag."""

    models: tuple[Bar, ...]
    problems: tuple[Bar, ...]
    flags: tuple[Bar, ...]


@dataclass(frozen=True)
class Histogram:
    """The distribution of a score over all images that have it, by result.

    Attributes:
        edges: bin edges, one more than bins.
        kept, dropped_here, ended_elsewhere: counts per bin of images that were kept, dropped by this score, and dropped
            or failed for another reason.
        threshold: the threshold; None if neither a row nor the recipe has it.
    """

    edges: tuple[float, ...]
    kept: tuple[int, ...]
    dropped_here: tuple[int, ...]
    ended_elsewhere: tuple[int, ...]
    threshold: float | None

    @property
    def n(self) -> int:
        """Number of images with a score."""
        return sum(self.kept) + sum(self.dropped_here) + sum(self.ended_elsewhere)


def totals(images: pa.Table, identities: pa.Table) -> Totals:
    """Count identities, candidates and shards in the manifests; the run record is not used."""
    by_status = _counts(images["status"])
    has_shard = identities.filter(pc.is_valid(identities["shard"]))
    return Totals(
        identities=identities.num_rows,
        identities_kept=_where(pc.greater(identities["n_kept"], 0)),
        candidates=images.num_rows,
        kept=by_status.get(Status.KEPT, 0),
        dropped=by_status.get(Status.DROPPED, 0),
        failed=by_status.get(Status.FAILED, 0),
        shards=pc.count_distinct(has_shard["shard"]).as_py(),
        shard_bytes=pc.sum(has_shard["shard_bytes"]).as_py() or 0,
    )


def funnel(images: pa.Table, run: Mapping[str, Any], words: Vocabulary) -> tuple[StageCount, ...]:
    """Count the images that passed, were dropped or failed at each stage, in running order.

    Args:
        images: columns ``status`` and ``stage``.
        run: the run record; its ``stages`` have the times and the stages that ran.
        words: vocabulary of the dataset.
    """
    lost = (
        images.filter(pc.not_equal(images["status"], Status.KEPT))
        .group_by(["stage", "status"])
        .aggregate([([], "count_all")])
    )
    ended = {(row["stage"] or "unknown", row["status"]): row["count_all"] for row in lost.to_pylist()}
    recorded = {entry["stage"]: entry for entry in run.get("stages") or ()}
    not_run = set(stages_not_run(run, words))
    order = [stage for stage in words.stages if stage in recorded or not recorded]
    order += sorted({*recorded, *(stage for stage, _ in ended)} - set(order))
    steps, n_in = [], images.num_rows
    for stage in order:
        dropped, failed = ended.get((stage, Status.DROPPED), 0), ended.get((stage, Status.FAILED), 0)
        ms_per_image = recorded.get(stage, {}).get("ms_per_image")
        n_kept = n_in - dropped - failed
        steps.append(StageCount(stage, n_in, n_kept, dropped, failed, ms_per_image, stage not in not_run))
        n_in = n_kept
    return tuple(steps)


def stages_not_run(run: Mapping[str, Any], words: Vocabulary) -> tuple[str, ...]:
    """List stages that did not run, in running order, from the run record or otherwise from its recipe."""
    named = set(run.get("not_checked") or ())
    named |= {entry["stage"] for entry in run.get("stages") or () if entry.get("ran") is False}
    sections = run.get("recipe") or {}
    if "stages" not in run and "not_checked" not in run:
        named |= {stage for stage in words.stages if _switched_off(sections.get(stage))}
    known = [stage for stage in words.stages if stage in named]
    return tuple(known + sorted(named - set(known)))


def reason_counts(images: pa.Table, words: Vocabulary) -> tuple[ReasonCount, ...]:
    """Count candidates by reason, in the order of the vocabulary, which is the order of the stages."""
    lost = images.filter(pc.not_equal(images["status"], Status.KEPT))
    found: dict[str, dict[tuple[str, str], int]] = {}
    for row in lost.group_by(["reason", "status", "stage"]).aggregate([([], "count_all")]).to_pylist():
        found.setdefault(row["reason"] or "unknown", {})[row["status"], row["stage"] or "unknown"] = row["count_all"]
    return tuple(
        ReasonCount(
            reason,
            sum(n for (status, _), n in found[reason].items() if status != Status.FAILED),
            sum(n for (status, _), n in found[reason].items() if status == Status.FAILED),
            tuple(sorted({stage for _, stage in found[reason]})),
        )
        for reason in words.in_order(found)
    )


def cluster_sizes(identities: pa.Table, max_bars: int = 10) -> Distribution:
    """Count identities by their number of kept images; identities without kept images are left out.

    Source: HiFi-Portrait, appendix A, Fig. 11.
    """
    sizes = _numbers(identities["n_kept"])
    sizes = sizes[sizes > 0].astype(np.int64)
    if not sizes.size:
        return Distribution((), 0)
    low, high = int(sizes.min()), int(sizes.max())
    width = next(w for w in _nice_widths() if high // w - low // w < max_bars)
    counts = np.bincount(sizes // width - low // width)
    starts = (low // width + np.arange(counts.size)) * width
    labels = [str(s) if width == 1 else f"{s}–{s + width - 1}" for s in starts]
    return Distribution(tuple(map(Bar, labels, counts.tolist())), 0)


def face_areas(images: pa.Table) -> Distribution:
    """Count kept images by face box area over crop area, in steps of 0.1.

    Source: HiFi-Portrait, appendix A, Fig. 12.
    """
    values, n_unknown = _kept_numbers(images, "face_area_ratio")
    # float32 stores 0.3 as 0.30000001 or 0.29999998; the offset puts both into the same step.
    steps = np.clip(np.floor(values * 10 + 1e-5), 0, 9).astype(np.int64)
    labels = [f".{i}–{f'.{i + 1}' if i < 9 else '1'}" for i in range(10)]
    return Distribution(tuple(map(Bar, labels, np.bincount(steps, minlength=10).tolist())), n_unknown)


def ages(images: pa.Table) -> Distribution:
    """Count kept images by age in decades; 80 and above is one class.

    Source: HiFi-Portrait, appendix A, Fig. 13.
    """
    values, n_unknown = _kept_numbers(images, "age")
    decades = np.clip(values // 10, 0, 8).astype(np.int64)
    labels = ["0–9", *(f"{10 * i}s" for i in range(1, 8)), "80+"]
    return Distribution(tuple(map(Bar, labels, np.bincount(decades, minlength=9).tolist())), n_unknown)


def genders(images: pa.Table) -> Distribution:
    """Count kept images by gender.

    Source: HiFi-Portrait, appendix A, Fig. 16.
    """
    kept = images.filter(pc.equal(images["status"], Status.KEPT))
    counts = _counts(kept["gender"])
    n_unknown = counts.pop(None, 0)
    labels = ["female", "male", *sorted(set(counts) - {"female", "male"})]
    return Distribution(tuple(Bar(label, counts.get(label, 0)) for label in labels), n_unknown)


def captions(images: pa.Table) -> Captions:
    """Count kept images by caption model, problem and flag."""
    kept = images.filter(pc.equal(images["status"], Status.KEPT))
    joined_flags = kept["caption_flags"].combine_chunks()
    columns = kept["caption_model"], kept["caption_problem"], pc.list_flatten(pc.split_pattern(joined_flags, " | "))
    models, problems, flags = (
        tuple(Bar(label, n) for label, n in sorted(_counts(column).items(), key=lambda pair: -pair[1]))
        for column in (pc.drop_null(column) for column in columns)
    )
    return Captions(models, problems, flags)


def histogram(images: pa.Table, column: str, reason: str, threshold: float | None, bins: int = 40) -> Histogram:
    """Count images in equal bins of a score, by result.

    Args:
        images: the summary columns.
        column: a score with a usual maximum of 1; the histogram starts below the lowest score and the threshold.
        reason: reason of images that this score drops.
        threshold: threshold of the score.
        bins: number of bins.
    """
    measured = images.select([column, "status", "reason"]).filter(pc.is_valid(images[column]))
    values = _numbers(measured[column])
    ends = [float(values.min()), float(values.max()), 1.0 if threshold is None else threshold] if values.size else [0.0]
    low = max((start for start in _HISTOGRAM_STARTS if start <= min(ends)), default=min(ends))
    high = max(1.0, *ends)
    kept = _mask(pc.equal(measured["status"], Status.KEPT))
    here = _mask(pc.equal(measured["reason"], reason))
    edges = np.linspace(low, high, bins + 1)

    def count(mask: NDArray[np.bool_]) -> tuple[int, ...]:
        return tuple(np.histogram(values[mask], edges)[0].tolist())

    return Histogram(tuple(edges.tolist()), count(kept), count(here & ~kept), count(~kept & ~here), threshold)


def _switched_off(section: Any) -> bool:
    if not isinstance(section, Mapping):
        return False
    switches = [section[key] for key in ("model", "enabled", "gender_from_name") if key in section]
    return bool(switches) and not any(switches)


def _nice_widths() -> list[int]:
    return [step * 10**power for power in range(9) for step in (1, 2, 5)]


def _counts(column: pa.ChunkedArray) -> dict[Any, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}


def _where(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _mask(mask: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(mask, False))


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(pc.drop_null(column)).astype(np.float64)


def _kept_numbers(images: pa.Table, column: str) -> tuple[NDArray[np.float64], int]:
    kept = images[column].filter(pc.equal(images["status"], Status.KEPT))
    return _numbers(kept), kept.null_count
