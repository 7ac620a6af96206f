"""Age and gender of dlib-models: the pixel code on made graphs, the real files on real portraits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from hifidata.core.errors import ModelError, WeightsError
from hifidata.models.attributes.age_gender import MEAN, PADDING, TEMPLATE, DlibAgeGender, aligned
from hifidata.models.detect.yunet import YuNet
from hifidata.models.protocols import RgbU8
from tests.factories.graphs import make_graph

KPS = (TEMPLATE * 100 + 60).astype(np.float32)
BOX = np.array([50, 50, 170, 180], np.float32)


def mean_colours(path: Path, side_px: int, n_classes: int) -> Path:
    """A graph whose last two classes get the means of red and blue."""
    weights = np.zeros((3, n_classes))
    weights[0, -2], weights[2, -1] = 1, 1
    return make_graph(
        path,
        [("ReduceMean", ["input"], "colours", {"axes": [2, 3], "keepdims": 0}), ("MatMul", ["colours", "weights"], "output")],
        (["n", 3, side_px, side_px], ["n", n_classes]),
        {"weights": weights},
    )  # fmt: skip


@pytest.mark.parametrize(("colour", "gender"), [((250, 0, 120), "female"), ((130, 0, 250), "male")])
def test_made_graphs_get_rgb_minus_the_mean_over_256_and_ages_are_weighted_by_their_probability(
    tmp_path: Path, colour: tuple[int, int, int], gender: str
) -> None:
    model = DlibAgeGender(mean_colours(tmp_path / "a.onnx", 64, 81), mean_colours(tmp_path / "g.onnx", 32, 2))
    (guess,) = model.estimate([np.full((240, 240, 3), colour, np.uint8)], [BOX], [KPS])
    red, _, blue = (np.array(colour) - MEAN) / 256
    assert guess.gender == gender
    assert guess.age == pytest.approx(79 * red + 80 * blue, abs=0.06)


def test_the_points_land_in_their_places_of_the_chip_with_dlibs_margin() -> None:
    picture = np.zeros((240, 240, 3), np.uint8)
    for x, y in KPS:
        cv2.circle(picture, (round(x), round(y)), 3, (255, 255, 255), -1)
    face = aligned(picture, KPS)
    assert face.shape == (256, 256, 3)
    for x, y in (TEMPLATE + PADDING) / (1 + 2 * PADDING) * 256:
        assert face[round(y), round(x)].min() > 200
    with pytest.raises(ModelError, match="coincide"):
        aligned(picture, np.full((5, 2), 7, np.float32))


def test_another_graph_is_refused(tmp_path: Path) -> None:
    age, gender = mean_colours(tmp_path / "a.onnx", 64, 81), mean_colours(tmp_path / "g.onnx", 32, 2)
    for files in ((gender, age), (age, mean_colours(tmp_path / "x.onnx", 32, 3))):
        with pytest.raises(WeightsError, match="another graph than expected"):
            DlibAgeGender(*files)


def test_the_demos_people_are_adults_and_have_one_gender_on_both_portraits(
    people: dict[str, list[RgbU8]], weights_here: Callable[[str], Path]
) -> None:
    model = DlibAgeGender(weights_here("dlib_age"), weights_here("dlib_gender"))
    pictures = [picture for portraits in people.values() for picture in portraits]
    faces = YuNet(weights_here("yunet")).detect(pictures)
    guesses = model.estimate(pictures, [f.xyxy_px[0] for f in faces], [f.kps_px[0] for f in faces])
    assert all(18 < guess.age < 70 for guess in guesses)
    assert [guess.gender for guess in guesses[::2]] == [guess.gender for guess in guesses[1::2]]
    assert dict(zip(people, guesses[::2], strict=True))["Eileen_Collins"].gender == "female"
    assert {guess.gender for guess in guesses} == {"female", "male"}
