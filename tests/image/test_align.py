"""Alignment maps the keypoints to the template by rotation, scale and shift only."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hifidata.core.errors import ModelError
from hifidata.image.align import TEMPLATE_PX, norm_crop, similarity


@pytest.mark.parametrize("turn_deg", [0, 30, 90, 179, -120])
@pytest.mark.parametrize("scale", [0.1, 1, 7.5])
def test_a_turned_scaled_and_shifted_face_is_brought_back_exactly(turn_deg: float, scale: float) -> None:
    turn = np.deg2rad(turn_deg)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (TEMPLATE_PX @ matrix.T + [300, -40]).astype(np.float32)
    found = similarity(points, TEMPLATE_PX)
    assert np.allclose(points @ found[:, :2].T + found[:, 2], TEMPLATE_PX, atol=1e-2)


def test_a_mirrored_face_is_never_mirrored_back() -> None:
    found = similarity(TEMPLATE_PX * [-1, 1], TEMPLATE_PX)
    assert np.linalg.det(found[:, :2]) > 0


def test_no_other_similarity_is_nearer_to_the_template() -> None:
    rng = np.random.default_rng(5)
    points = (TEMPLATE_PX * 3 + rng.normal(0, 6, (5, 2))).astype(np.float32)
    best = similarity(points, TEMPLATE_PX)

    def distance(matrix: np.ndarray) -> float:
        return float(np.square(points @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE_PX).sum())

    for _ in range(200):
        turn, grow = rng.normal(0, 0.02), 1 + rng.normal(0, 0.02)
        change = grow * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        other = np.column_stack([change @ best[:, :2], change @ best[:, 2] + rng.normal(0, 0.3, 2)])
        assert distance(other) >= distance(best) - 1e-3


@pytest.mark.parametrize("side_px", [112, 224])
def test_marked_points_lie_on_the_template_in_the_aligned_face(side_px: int) -> None:
    points = TEMPLATE_PX * 2.5 + np.float32([120, 80])
    picture = np.zeros((500, 600, 3), np.uint8)
    for x, y in points:
        cv2.circle(picture, (round(float(x)), round(float(y))), 5, (255, 255, 255), -1)
    chip = norm_crop(picture, points, side_px)
    assert chip.shape == (side_px, side_px, 3)
    for x, y in TEMPLATE_PX * side_px / 112:
        assert chip[round(float(y)), round(float(x))].min() > 200


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of skimage, in insightface
@pytest.mark.parametrize("side_px", [112, 224])
def test_the_chip_is_that_of_insightface(side_px: int) -> None:
    theirs = pytest.importorskip("insightface.utils.face_align").norm_crop
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (400, 400, 3), np.uint8), (0, 0), 3)
    points = (TEMPLATE_PX * 2 + 60 + rng.normal(0, 2, (5, 2))).astype(np.float32)
    assert np.abs(norm_crop(image, points, side_px).astype(int) - theirs(image, points, side_px)).max() <= 1


@pytest.mark.parametrize("points", [np.full((5, 2), 40.0), np.full((5, 2), np.nan)], ids=["one place", "not numbers"])
def test_coinciding_points_are_a_model_error(points: np.ndarray) -> None:
    with pytest.raises(ModelError, match="coincide or are not finite"):
        norm_crop(np.zeros((100, 100, 3), np.uint8), points.astype(np.float32))
