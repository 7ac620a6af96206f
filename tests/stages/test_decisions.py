"""Decisions of the stages: pure functions of stored numbers, without models."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hifidata.config import sections as settings
from hifidata.core.reasons import Reason
from hifidata.core.schema import as_float32
from hifidata.models.text.lines import PLACEHOLDERS, UNREAD
from hifidata.stages.crop import Crop
from hifidata.stages.dedup import Dedup
from hifidata.stages.detect import Detect
from hifidata.stages.quality import Quality
from hifidata.stages.verify import Verify, cluster, target_embedding
from hifidata.stages.watermark import Watermark, certainty, is_facial_feature


def decided(stage: Any, row: dict[str, Any], section: Any) -> Reason | None:
    for name, values in stage.derive([row], section).items():
        row[name] = values[0]
    verdict = stage.decide(row, section)
    return verdict.reason if verdict else None


def face_row(*areas: float, inside: float = 1.0) -> dict[str, Any]:
    return {
        "n_faces_raw": len(areas),
        "face_areas_rel": list(areas),
        "other_face_area_ratio": areas[1] if len(areas) > 1 else 0.0,
        "face_inside_ratio": inside,
    }


@pytest.mark.parametrize(
    ("areas", "ratio", "reason", "n_faces"),
    [
        ((), 0.25, "no_face", 0),
        ((1.0,), 0.0, None, 1),
        ((1.0, 0.01), 0.0, "several_faces", 2),  # the paper's strict rule
        ((1.0, 0.24), 0.25, None, 1),
        ((1.0, 0.25), 0.25, "several_faces", 2),
        ((1.0, 0.9, 0.1), 0.25, "several_faces", 2),
    ],
)
def test_other_faces_count_by_their_area(
    areas: tuple[float, ...], ratio: float, reason: Reason | None, n_faces: int
) -> None:
    row = face_row(*areas)
    assert decided(Detect, row, settings.DetectConfig(other_face_min_area_ratio=ratio)) == reason
    assert row["n_faces"] == n_faces


def test_the_message_states_the_number_of_counted_faces() -> None:
    row = face_row(1.0, 0.9, 0.1) | {"n_faces": 2}
    verdict = Detect.decide(row, settings.DetectConfig())
    assert verdict is not None
    assert verdict.message == "2 counted faces (3 found); the second face has 90% of the main face's area"


def test_a_face_cut_off_by_the_edge_is_dropped() -> None:
    assert decided(Detect, face_row(1.0, inside=0.7), settings.DetectConfig()) == "face_cut_off"


@pytest.mark.parametrize(
    ("side", "share", "reason"),
    [(255, 0.5, "crop_too_small"), (256, 0.10, "face_share_too_low"), (256, 0.101, None)],
)
def test_the_papers_crop_rules(side: int, share: float, reason: Reason | None) -> None:
    row = {"crop_x1_px": 0, "crop_x2_px": side, "face_area_ratio": share}
    assert decided(Crop, row, settings.CropConfig()) == reason


def test_a_score_equal_to_the_threshold_passes_and_a_lower_score_does_not() -> None:
    floor = settings.QualityConfig(min_score=0.5)
    assert decided(Quality, {"quality_score": 0.5}, floor) is None
    assert decided(Quality, {"quality_score": np.nextafter(np.float32(0.5), np.float32(0))}, floor) == "low_quality"


def text_row(*regions: tuple[str, float, float]) -> dict[str, Any]:
    return {"text_regions": json.dumps(regions)}


@pytest.mark.parametrize(
    ("regions", "reason"),
    [
        ((), None),
        ((("ALAMY", 0.95, 0.2),), "text_on_face"),
        ((("ALAMY", 0.1, 0.2),), None),  # the text score is too low
        ((("|", 0.99, 0.2),), None),  # a single character is usually a wrinkle
        ((("ab", 0.95, 0.001), ("cd", 0.95, 0.001)), None),  # the overlap with the face is too small
    ],
)
def test_text_counts_only_with_a_high_score_enough_characters_and_enough_overlap(
    regions: Any, reason: Reason | None
) -> None:
    section = settings.WatermarkConfig(max_text_overlap=0.02, min_text_score=0.5, min_characters=2)
    assert decided(Watermark, text_row(*regions), section) == reason


@pytest.mark.parametrize("unread", PLACEHOLDERS)
def test_unread_text_counts_for_any_minimum_of_characters(unread: str) -> None:
    section = settings.WatermarkConfig(min_text_score=0.5, min_characters=20)
    assert decided(Watermark, text_row((unread, 0.5, 0.2)), section) == "text_on_face"
    assert decided(Watermark, text_row((unread, 0.49, 0.2)), section) is None
    assert decided(Watermark, text_row(("ALAMY", 0.95, 0.2)), section) is None


def dedup_row(image_id: str, phash: str, quality: float, sha: str = "") -> dict[str, Any]:
    return {
        "image_id": image_id, "phash": phash, "quality_score": quality, "content_sha256": sha or image_id,
        "crop_x1_px": 0, "crop_x2_px": 300,
    }  # fmt: skip


def test_the_best_of_near_duplicates_is_kept() -> None:
    rows = [
        dedup_row("worse", "0000000000000000", 0.6),
        dedup_row("best", "0000000000000003", 0.9),
        dedup_row("other", "ffffffff00000000", 0.1),
    ]
    derived = Dedup.derive(rows, settings.DedupConfig(max_distance_bits=6))
    assert derived["duplicate_of"] == ["best", None, None]
    assert derived["duplicate_distance_bits"] == [2, None, 34]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"crop_x2_px": 400}, {"quality_score": 0.992}),
        ({"is_monochrome": False}, {"is_monochrome": True, "quality_score": 0.999}),
        ({"original_bytes": 800_000}, {"original_bytes": 80_000, "quality_score": 0.993}),
        ({"quality_score": 0.995}, {"original_bytes": 500_000}),
    ],
)
def test_small_score_differences_do_not_select_the_best_copy(better: dict[str, Any], worse: dict[str, Any]) -> None:
    common = {"width_px": 1000, "height_px": 1000, "original_bytes": 500_000}
    rows = [dedup_row(name, "0" * 16, 0.99) | common | more for name, more in (("worse", worse), ("better", better))]
    assert Dedup.derive(rows, settings.DedupConfig())["duplicate_of"] == ["better", None]


def test_identical_bytes_have_their_own_reason() -> None:
    rows = [dedup_row("a", "0" * 16, 0.5, "sha"), dedup_row("b", "0" * 16, 0.5, "sha")]
    for name, values in Dedup.derive(rows, settings.DedupConfig()).items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    verdicts = [Dedup.decide(row, settings.DedupConfig()) for row in rows]
    assert verdicts[0] is None
    assert verdicts[1] is not None
    assert verdicts[1].reason == "duplicate_bytes"


def embeddings_of(*counts: int, spread: float = 0.05) -> np.ndarray[Any, Any]:
    """Return synthetic embeddings: ``counts`` unit vectors around one axis for each person."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.eye(16)[i] + spread * rng.normal(size=(n, 16)) for i, n in enumerate(counts)])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_images_outside_the_largest_cluster_are_dropped() -> None:
    embeddings = embeddings_of(3, 8, 2)
    rows: list[dict[str, Any]] = [{"embedding": e} for e in embeddings]
    section = settings.VerifyConfig(k=3, min_similarity=0.7, min_images=5)
    derived = Verify.derive(rows, section)
    for name, values in derived.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = as_float32(value) if name == "similarity" else value
    reasons = [v.reason if (v := Verify.decide(row, section)) else None for row in rows]
    assert reasons == ["other_person"] * 3 + [None] * 8 + ["other_person"] * 2
    assert derived["cluster"][3:11] == [0] * 8


def test_an_identity_with_four_images_is_too_small() -> None:
    rows: list[dict[str, Any]] = [{"embedding": e} for e in embeddings_of(4)]
    section = settings.VerifyConfig(k=1, min_similarity=0.7, min_images=5)
    for name, values in Verify.derive(rows, section).items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    assert {v.reason if (v := Verify.decide(row, section)) else None for row in rows} == {"identity_too_small"}


def test_k_above_the_number_of_images_and_identical_images_raise_no_error() -> None:
    assert cluster(embeddings_of(2), 10).max() <= 1
    same = np.repeat(embeddings_of(1), 4, axis=0)
    assert cluster(same, 3).tolist() == [0, 0, 0, 0]


def test_clustering_is_deterministic() -> None:
    embeddings = embeddings_of(6, 6, spread=0.4)
    assert cluster(embeddings, 3).tolist() == cluster(embeddings.copy(), 3).tolist()


def test_the_target_is_the_normalised_centre() -> None:
    target = target_embedding(np.array([[1, 0], [0, 1]], np.float32))
    np.testing.assert_allclose(target, [2**-0.5, 2**-0.5], atol=1e-6)


KPS_PX = np.array([[40, 40], [80, 40], [60, 65], [45, 90], [75, 90]], np.float32)


def quad(centre_px: tuple[int, int], size_px: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
    return np.array(centre_px, np.float32) + corners * np.array(size_px, np.float32) / 2


@pytest.mark.parametrize(
    ("centre_px", "size_px", "is_feature"),
    [
        ((40, 40), (24, 12), True),  # an eye
        ((60, 90), (50, 20), True),  # a smile
        ((60, 90), (90, 20), False),  # a line across the mouth and both cheeks
        ((60, 20), (24, 12), False),  # the forehead
        ((60, 40), (90, 20), False),  # a line over both eyes
        ((60, 40), (120, 40), True),  # both eyes and their brows
        ((60, 65), (110, 50), False),  # a line of large letters
    ],
)
def test_a_region_at_a_facial_feature_may_be_this_feature(
    centre_px: tuple[int, int], size_px: tuple[int, int], is_feature: bool
) -> None:
    assert is_facial_feature(quad(centre_px, size_px), KPS_PX) is is_feature


@pytest.mark.parametrize(
    ("centre_px", "size_px", "text", "expected"),
    [
        ((40, 40), (28, 12), UNREAD, 0.35 * 0.6),  # an eye
        ((60, 65), (60, 50), UNREAD, 0.35 * 0.6),  # half a face
        ((60, 90), (50, 40), UNREAD, 0.35**2 * 0.6),  # an open mouth
        ((40, 40), (28, 12), "abc", 0.6),
        ((60, 20), (28, 12), UNREAD, 0.6),
    ],
)
def test_an_unread_line_that_resembles_a_facial_feature_gets_a_lower_score(
    centre_px: tuple[int, int], size_px: tuple[int, int], text: str, expected: float
) -> None:
    assert certainty(quad(centre_px, size_px), text, 0.6, KPS_PX) == pytest.approx(expected)
