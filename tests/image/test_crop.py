"""Crop windows stay inside the image, and points follow the pixels."""

from __future__ import annotations

import numpy as np
import pytest

from hifidata.image.crop import CropWindow, cut, map_points, reduced, square_window
from tests.factories.images import scene


def box_around(x: float, y: float, half_px: float = 20) -> tuple[float, float, float, float]:
    return x - half_px, y - half_px, x + half_px, y + half_px


@pytest.mark.parametrize(
    ("centre", "side_px", "pad", "expected"),
    [
        ((300, 200), 100, False, CropWindow(250, 150, 350, 250, 0)),
        ((300.5, 200.4), 101, False, CropWindow(250, 150, 351, 251, 0)),
        ((10, 200), 100, False, CropWindow(0, 150, 100, 250, 40)),
        ((630, 390), 100, False, CropWindow(540, 300, 640, 400, 40)),
        ((10, 200), 100, True, CropWindow(0, 150, 100, 250, 40)),
        ((320, 200), 400, False, CropWindow(120, 0, 520, 400, 0)),
        ((320, 100), 900, False, CropWindow(120, 0, 520, 400, 100)),
        ((320, 100), 500, True, CropWindow(70, -100, 570, 400, 50)),
        ((320, 200), 500, True, CropWindow(70, -50, 570, 450, 0)),
        ((20, 390), 900, True, CropWindow(-260, -60, 640, 840, 170)),
    ],
)
def test_square_is_centred_then_moved_no_further_than_needed(
    centre: tuple[float, float], side_px: int, pad: bool, expected: CropWindow
) -> None:
    assert square_window(box_around(*centre), (640, 400), side_px, pad) == expected


def test_without_padding_no_window_leaves_the_image() -> None:
    chance = np.random.default_rng(7)
    for _ in range(500):
        width_px, height_px, side_px = (int(value) for value in chance.integers(1, 300, 3))
        x, y = chance.uniform(-100, 400, 2)
        window = square_window(box_around(x, y), (width_px, height_px), side_px, pad=False)
        assert 0 <= window.x1 < window.x2 <= width_px
        assert 0 <= window.y1 < window.y2 <= height_px
        assert window.side_px == window.y2 - window.y1 == min(side_px, width_px, height_px)


@pytest.mark.parametrize(("side_px", "edge"), [(0, 1.0), (10, float("nan")), (10, float("inf"))])
def test_invalid_side_or_box_is_refused_by_name(side_px: int, edge: float) -> None:
    with pytest.raises(ValueError, match="square_window"):
        square_window((0, 0, edge, 10), (640, 400), side_px, pad=False)


def test_cut_of_the_same_size_is_a_copy_of_the_pixels() -> None:
    picture = scene(200, 300)
    result = cut(picture, CropWindow(30, 20, 130, 120, 0), 100)
    np.testing.assert_array_equal(result, picture[20:120, 30:130])
    result[:] = 0
    np.testing.assert_array_equal(picture, scene(200, 300))


def test_padding_repeats_the_edge() -> None:
    picture = scene(100, 160)
    result = cut(picture, CropWindow(-10, -30, 150, 130, 0), 160)
    np.testing.assert_array_equal(result[30:130, 10:], picture[:, :150])
    np.testing.assert_array_equal(result[0, 10:], picture[0, :150])
    np.testing.assert_array_equal(result[159, 10:], picture[99, :150])
    np.testing.assert_array_equal(result[30:130, 0], picture[:, 0])


def test_window_beside_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="does not touch"):
        cut(scene(), CropWindow(500, 500, 600, 600, 0), 100)


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    assert (
        np.abs(cut(stripes, CropWindow(0, 0, 512, 512, 0), 100).astype(int) - 128).max() <= 26
    )  # picking pixels would give 128


@pytest.mark.parametrize("output_px", [64, 100, 200, 201, 512])
@pytest.mark.parametrize("window", [CropWindow(37, 21, 237, 221, 0), CropWindow(-40, -30, 160, 170, 0)])
def test_mapped_points_sit_on_the_pixels_they_marked(window: CropWindow, output_px: int) -> None:
    y, x = np.mgrid[0:300, 0:320]
    for point in ((100.0, 90.0), (120.4, 101.7), (61.25, 140.5)):
        blob = 255 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * 8.0**2))
        result = cut(np.repeat(blob[..., None], 3, axis=2).round().astype(np.uint8), window, output_px)[..., 0].astype(
            float
        )
        rows, columns = np.mgrid[0:output_px, 0:output_px]
        centroid = np.array([(columns * result).sum(), (rows * result).sum()]) / result.sum()
        np.testing.assert_allclose(map_points(point, window, output_px), centroid, atol=0.05 * output_px / 200 + 0.02)


def test_mapping_keeps_the_shape_of_the_points() -> None:
    window = CropWindow(10, 20, 110, 120, 0)
    points = np.arange(2 * 68 * 2, dtype=np.float32).reshape(2, 68, 2)
    mapped = map_points(points, window, 100)
    assert mapped.dtype == np.float32
    np.testing.assert_allclose(mapped, points - [10, 20])


@pytest.mark.parametrize(
    ("height", "width", "side"), [(1024, 1024, 256), (1024, 1024, 160), (700, 333, 160), (1, 9000, 160), (90, 50, 160)]
)
def test_reduced_keeps_shape_and_mean_and_never_enlarges(height: int, width: int, side: int) -> None:
    ramp = np.linspace(0, 255, width, dtype=np.float32)[None, :, None]
    picture = np.broadcast_to(ramp, (height, width, 3)).astype(np.uint8)
    small = reduced(picture, side)
    assert max(small.shape[:2]) == min(side, max(height, width))
    assert small.shape[1] / small.shape[0] == pytest.approx(width / height, rel=0.02) or min(small.shape[:2]) == 1
    assert small.mean() == pytest.approx(picture.mean(), abs=1.5)
