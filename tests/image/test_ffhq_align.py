from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hifidata.image.ffhq_align import SIDE_PX, TEMPLATE_PX, align_ffhq, paste_back, paste_mask

KPS = np.array([[418, 390], [596, 402], [500, 505], [425, 590], [570, 598]], np.float32)


@pytest.fixture(scope="module")
def photo(assets: Path) -> np.ndarray:
    with Image.open(assets / "faces" / "human-samples" / "stock-emotions-a-3.jpg") as image:
        return np.asarray(image.convert("RGB").crop((0, 0, 1024, 1024)))


def test_the_five_points_come_to_lie_in_the_template() -> None:
    turned = cv2.getRotationMatrix2D((256, 256), 25, 1.7)
    kps = TEMPLATE_PX @ turned[:, :2].T.astype(np.float32) + turned[:, 2].astype(np.float32)
    matrix = align_ffhq(np.zeros((900, 900, 3), np.uint8), kps).matrix
    np.testing.assert_allclose(kps @ matrix[:, :2].T + matrix[:, 2], TEMPLATE_PX, atol=0.01)


def test_a_face_pasted_back_unchanged_changes_a_real_photo_by_less_than_two_levels_and_nothing_outside(
    photo: np.ndarray,
) -> None:
    aligned = align_ffhq(photo, KPS)
    assert aligned.rgb_u8.shape == (SIDE_PX, SIDE_PX, 3)
    pasted = paste_back(photo, aligned.rgb_u8.astype(np.float32), aligned.matrix)
    shown = paste_mask(photo.shape[:2], aligned.matrix) > 0
    change = np.abs(pasted.astype(np.int16) - photo)
    assert 0.2 < shown.mean() < 0.8
    assert change[shown].mean() < 2
    assert change[~shown].max() == 0


def test_a_pasted_face_lands_on_the_face_and_fades_without_a_step(photo: np.ndarray) -> None:
    aligned = align_ffhq(photo, KPS)
    white = np.full((SIDE_PX, SIDE_PX, 3), 255, np.float32)
    pasted = paste_back(np.zeros_like(photo), white, aligned.matrix)[..., 0].astype(np.int16)
    assert all(pasted[round(y), round(x)] == 255 for x, y in KPS.tolist())
    assert max(np.abs(np.diff(pasted, axis=0)).max(), np.abs(np.diff(pasted, axis=1)).max()) < 12


def test_a_face_at_the_edge_keeps_the_picture_inside_its_range_and_its_own_memory(photo: np.ndarray) -> None:
    before = photo.copy()
    aligned = align_ffhq(photo, KPS - 330)
    pasted = paste_back(photo, 255 - aligned.rgb_u8.astype(np.float32), aligned.matrix)
    assert pasted.dtype == np.uint8
    assert pasted.shape == photo.shape
    np.testing.assert_array_equal(photo, before)
