"""Counts, distributions and histograms match the manifest."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hifidata.core.schema import arrow_schema
from hifidata.report import statistics as stats
from hifidata.report.identities import divide_evenly, shown_identities
from hifidata.report.manifests import Manifests
from hifidata.report.near_threshold import around_threshold, threshold_used, with_derived
from hifidata.report.words import vocabulary
from hifidata.stages.table import IMAGE_COLUMNS, REASONS


def rows_of(*rows: dict[str, Any]) -> pa.Table:
    """Build a table with the summary columns; missing image ids are numbered."""
    filled = [{"image_id": f"{i:020d}", "status": "kept", **row} for i, row in enumerate(rows)]
    table = pa.Table.from_pylist(filled, schema=arrow_schema(IMAGE_COLUMNS))
    return with_derived(table.select(stats.IMAGE_COLUMNS_READ))


def dropped(reason: str, stage: str, **columns: Any) -> dict[str, Any]:
    return {"status": "dropped", "stage": stage, "reason": reason, **columns}


def test_the_funnel_conserves_candidates(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    manifests = Manifests(folder)
    images = manifests.images(stats.IMAGE_COLUMNS_READ)
    steps = stats.funnel(images, run, vocabulary(run))
    totals = stats.totals(images, manifests.identities(stats.IDENTITY_COLUMNS_READ))
    assert steps[0].n_in == totals.candidates == totals.kept + totals.dropped + totals.failed
    assert steps[-1].n_kept == totals.kept
    for before, after in itertools.pairwise(steps):
        assert before.n_kept == after.n_in
    assert sum(count.n for count in stats.reason_counts(images, vocabulary({}))) == totals.dropped + totals.failed


def test_the_funnel_is_in_running_order_if_the_run_record_lists_idle_stages_last() -> None:
    run = {"stages": [{"stage": "detect"}, {"stage": "verify"}, {"stage": "occlusion", "ran": False}]}
    steps = stats.funnel(rows_of({}, dropped("no_face", "detect")), run, vocabulary(run))
    assert [(step.stage, step.ran) for step in steps] == [("detect", True), ("occlusion", False), ("verify", True)]


def test_counts_come_from_the_manifest_and_not_from_the_run_record() -> None:
    run = {"stages": [{"stage": "detect", "in": 99, "dropped": 98, "ms_per_image": 4.0}]}
    (step,) = stats.funnel(rows_of({}, dropped("no_face", "detect")), run, vocabulary(run))
    assert (step.n_in, step.n_dropped, step.ms_per_image) == (2, 1, 4.0)


def test_stages_not_run_come_from_the_recipe_without_a_run_record() -> None:
    recipe = {"occlusion": {"model": None}, "quality": {"model": "iso29794"}, "dedup": {"enabled": False}}
    assert stats.stages_not_run({"recipe": recipe}, vocabulary({})) == ("occlusion", "dedup")


def test_nulls_count_as_unknown() -> None:
    images = rows_of({"gender": "female", "age": 34.0}, {"gender": None, "age": None}, {"gender": None})
    genders, ages = stats.genders(images), stats.ages(images)
    assert (genders.n_unknown, genders.n_known) == (2, 1)
    assert (ages.n_unknown, ages.n_known) == (2, 1)
    assert stats.face_areas(images).n_unknown == 3


def test_distributions_contain_only_kept_images() -> None:
    images = rows_of({"age": 20.0}, dropped("low_quality", "quality", age=40.0))
    assert [bar.label for bar in stats.ages(images).bars if bar.n] == ["20s"]


@pytest.mark.parametrize(
    ("ratio", "label"), [(0.1, ".1–.2"), (0.3, ".3–.4"), (0.7, ".7–.8"), (0.29, ".2–.3"), (1.0, ".9–1")]
)
def test_a_face_area_on_an_edge_counts_in_the_step_that_starts_there(ratio: float, label: str) -> None:
    bars = stats.face_areas(rows_of({"face_area_ratio": ratio})).bars
    assert [bar.label for bar in bars if bar.n] == [label]


@pytest.mark.parametrize(
    ("sizes", "labels"),
    [
        ([5, 6, 6], ["5", "6"]),
        ([5, 28, 31], ["5–9", "25–29", "30–34"]),
        ([0, 0], []),
        ([7, 10_000], ["0–1999", "10000–11999"]),
    ],
)
def test_cluster_sizes_use_round_steps(sizes: list[int], labels: list[str]) -> None:
    distribution = stats.cluster_sizes(pa.table({"n_kept": pa.array(sizes, pa.int32())}))
    assert [bar.label for bar in distribution.bars if bar.n] == labels
    assert len(distribution.bars) <= 10
    assert distribution.n_known == sum(size > 0 for size in sizes)


def test_the_histogram_counts_all_scored_images_by_result() -> None:
    images = rows_of(
        {"quality_score": 0.8},
        {"quality_score": None},
        dropped("low_quality", "quality", quality_score=0.2, threshold=0.45),
        dropped("other_person", "verify", quality_score=0.9),
        {"quality_score": 1.0},
    )
    chart = stats.histogram(images, "quality_score", "low_quality", 0.45)
    assert (sum(chart.kept), sum(chart.dropped_here), sum(chart.ended_elsewhere)) == (2, 1, 1)
    assert chart.dropped_here[8] == 1
    assert (chart.edges[0], chart.edges[-1]) == (0.0, 1.0)


def test_the_threshold_is_inside_the_histogram_if_all_scores_are_above_it() -> None:
    chart = stats.histogram(rows_of({"similarity": 0.97}), "similarity", "other_person", 0.9)
    assert chart.edges[0] == 0.8
    assert chart.n == 1


def test_negative_similarities_are_in_the_histogram() -> None:
    chart = stats.histogram(rows_of({"similarity": -0.23}, {"similarity": 0.7}), "similarity", "other_person", 0.7)
    assert chart.n == 2
    assert chart.edges[0] == -0.6


def test_the_threshold_of_the_rows_has_priority_over_the_recipe() -> None:
    recipe = {"quality": {"min_score": 0.6}}
    low = dropped("low_quality", "quality", threshold=0.45)
    assert threshold_used(rows_of(low, low), REASONS["low_quality"], recipe) == pytest.approx(0.45)
    assert threshold_used(rows_of({}), REASONS["low_quality"], recipe) == 0.6
    assert threshold_used(rows_of({}), REASONS["low_quality"], {"quality": {"min_score": None}}) is None


def test_the_nearest_images_of_both_sides_are_selected_in_order() -> None:
    low = [dropped("low_quality", "quality", quality_score=s, threshold=0.45) for s in (0.1, 0.44, 0.3)]
    passed = [{"quality_score": s} for s in (0.9, 0.46, 0.5)]
    later = dropped("other_person", "verify", quality_score=0.47)
    near = around_threshold(rows_of(*low, *passed, later, {}), REASONS["low_quality"], {}, max_images=2)
    assert np.allclose([image.score for image in near.dropped], [0.44, 0.3])
    assert np.allclose([image.score for image in near.passed], [0.46, 0.47])


def test_an_image_without_text_is_not_near_the_threshold() -> None:
    rows = [dropped("text_on_face", "watermark", text_overlap=0.1, threshold=0.02)]
    rows += [{"text_overlap": overlap} for overlap in (0.0, 0.01, 0.0)]
    near = around_threshold(rows_of(*rows), REASONS["text_on_face"], {}, max_images=5)
    assert np.allclose([image.score for image in near.passed], [0.01])


def covered(score: float | None, **columns: Any) -> dict[str, Any]:
    return dropped("occluded", "occlusion", occlusion_score=score, score=score, **columns)


def test_occlusion_scores_are_compared_on_both_sides() -> None:
    rows = [covered(0.97, threshold=0.5), covered(0.5, threshold=0.5)]
    rows += [{"occlusion_score": score} for score in (0.0, 0.49, 0.1, None)]
    near = around_threshold(rows_of(*rows), REASONS["occluded"], {}, max_images=2)
    assert (near.threshold, [image.score for image in near.dropped]) == (0.5, pytest.approx([0.5, 0.97]))
    assert [image.score for image in near.passed] == pytest.approx([0.49, 0.1])


def test_a_score_is_shown_without_a_threshold_and_without_scores_there_is_none() -> None:
    near = around_threshold(rows_of(covered(0.75), covered(None)), REASONS["occluded"], {}, max_images=5)
    assert (near.threshold, [image.score for image in near.dropped], near.passed) == (None, [0.75, None], ())
    near = around_threshold(
        rows_of(covered(None), {}), REASONS["occluded"], {"occlusion": {"min_score": 0.5}}, max_images=5
    )
    assert (near.threshold, [image.score for image in near.dropped], near.passed) == (None, [None], ())


def test_the_crop_side_is_computed_from_its_corners() -> None:
    rows = [dropped("crop_too_small", "crop", crop_x1_px=-10, crop_x2_px=190, threshold=256.0)]
    rows += [{"crop_x1_px": 100, "crop_x2_px": 400}]
    near = around_threshold(rows_of(*rows), REASONS["crop_too_small"], {}, max_images=5)
    assert ([image.score for image in near.dropped], [image.score for image in near.passed]) == ([200.0], [300.0])


def test_a_reason_without_a_score_shows_its_images() -> None:
    near = around_threshold(rows_of(dropped("no_face", "detect", score=0.0)), REASONS["no_face"], {}, max_images=5)
    assert (len(near.dropped), near.passed, near.threshold) == (1, (), None)


def test_places_are_divided_evenly() -> None:
    assert divide_evenly({"a": 9, "b": 1}, 4) == {"a": 3, "b": 1}
    assert divide_evenly({"a": 1, "b": 1}, 9) == {"a": 1, "b": 1}
    assert divide_evenly({"a": 5, "b": 5, "c": 5}, 2) == {"a": 1, "b": 1, "c": 0}


def test_identities_show_their_least_similar_images_and_every_reason(dataset: tuple[Path, dict[str, Any]]) -> None:
    manifests = Manifests(dataset[0])
    shown = shown_identities(manifests, max_identities=4, max_images=6, words=vocabulary({}))
    assert len(shown) == 4
    rows = {
        row["image_id"]: row
        for row in manifests.images(["image_id", "identity_id", "reason", "similarity"]).to_pylist()
    }
    for identity in shown:
        own = [row for row in rows.values() if row["identity_id"] == identity.row["identity_id"]]
        similarities = sorted(row["similarity"] for row in own if row["reason"] is None)
        assert [rows[i]["similarity"] for i in identity.kept] == similarities[:6]
        reasons = {row["reason"] for row in own} - {None}
        assert len({rows[i]["reason"] for i in identity.not_kept}) == min(6, len(reasons))


def test_captions_of_kept_images_are_counted_by_model_problem_and_flag() -> None:
    table = rows_of(
        {"caption_model": "openai/m", "caption_flags": "expression | pose"},
        {"caption_model": "openai/m", "caption_flags": "pose", "caption_problem": "truncated"},
        {"caption_model": "attributes", "caption_problem": "refused"},
        dropped("no_face", "detect", caption_model="openai/m", caption_problem="timeout", caption_flags="pose"),
    )
    counted = stats.captions(table)
    assert [(bar.label, bar.n) for bar in counted.models] == [("openai/m", 2), ("attributes", 1)]
    assert {(bar.label, bar.n) for bar in counted.problems} == {("truncated", 1), ("refused", 1)}
    assert [(bar.label, bar.n) for bar in counted.flags] == [("pose", 2), ("expression", 1)]
    assert stats.captions(rows_of({})) == stats.Captions((), (), ())
