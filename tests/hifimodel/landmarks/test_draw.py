"""The picture that HiFi-Net is conditioned on."""

from __future__ import annotations

import numpy as np
import pytest

from hifidata.models.protocols import F32
from hifimodel.landmarks import STYLE_VERSION, LandmarkError, draw
from hifimodel.landmarks.draw import PARTS, line_width_px
from hifimodel.landmarks.face_statistics import mean_face_mm


def face_px(size_px: float = 1024, over: float = 0.003) -> F32:
    """The average face in the middle of a square picture."""
    xy = mean_face_mm()[:, :2] * (1, -1)
    return ((xy - xy.mean(axis=0)) * over * size_px + size_px / 2).astype(np.float32)


def test_the_same_points_give_the_same_picture() -> None:
    assert np.array_equal(draw(face_px(), 1024), draw(face_px().copy(), (1024, 1024)))


def test_style_lines68_1_is_black_with_one_colour_per_part_along_its_points() -> None:
    assert STYLE_VERSION == "lines68-1", "a change of style needs a new version, and this test a new expectation"
    points = face_px()
    picture = draw(points, 1024)
    assert [part.name for part in PARTS] == [
        "jaw", "left brow", "right brow", "nose bridge", "nose base", "left eye", "right eye", "outer lips", "inner lips",
    ]  # fmt: skip
    assert len({part.rgb for part in PARTS}) == len(PARTS)
    assert (picture.reshape(-1, 3).any(axis=1)).mean() < 0.05
    for part in PARTS[:7]:  # the lips cross one another at the corners
        for x, y in np.rint(points[part.points]).astype(int):
            assert tuple(picture[y, x]) == part.rgb
    colours = np.array([part.rgb for part in PARTS], float)
    pure = picture.reshape(-1, 3)[(picture.reshape(-1, 3).sum(axis=1) > 0)]
    is_exact = (np.abs(pure[:, None] - colours[None]).max(axis=2) == 0).any(axis=1)
    assert is_exact.mean() > 0.5
    assert not is_exact.all(), "edges are anti-aliased"


def test_lines_are_as_thick_as_the_face_is_large() -> None:
    small, large = face_px(512), face_px(1024)
    assert line_width_px(large) == pytest.approx(2 * line_width_px(small), rel=1e-5)
    share = [draw(points, size).mean() for points, size in ((small, 512), (large, 1024))]
    assert share[0] == pytest.approx(share[1], rel=0.1)


def test_moving_the_points_by_whole_pixels_moves_the_picture() -> None:
    points = np.round(face_px() * 4) / 4  # so that moving does not round
    moved = draw(points + np.float32([7, -3]), 1024)
    assert np.array_equal(moved[:-3, 7:], draw(points, 1024)[3:, :-7])


def test_what_lies_outside_is_cut_off() -> None:
    assert draw(face_px() + 600, 1024).any()
    assert not draw(face_px() + 5000, 1024).any()
    assert draw(face_px(), (700, 300)).shape == (700, 300, 3)
    assert draw(face_px() * 1e6, 64).shape == (64, 64, 3)
    upper, whole = draw(face_px(), (600, 1024)), draw(face_px(), 1024)
    assert (
        np.abs(upper.astype(int) - whole[:600]).mean() < 0.02
    )  # OpenCV's clipping may shift a cut line by a quarter pixel


@pytest.mark.parametrize("points", [np.zeros((5, 2), np.float32), np.full((68, 2), np.nan, np.float32)])
def test_anything_but_68_finite_points_is_refused(points: F32) -> None:
    with pytest.raises(LandmarkError, match="expected \\(68, 2\\) finite numbers"):
        draw(points, 64)
