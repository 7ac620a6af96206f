"""Age and gender: the pixel code on made graphs of genderage.onnx's form; its weights are not to be had here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hifidata.core.errors import ModelError, WeightsError
from hifidata.models.attributes.genderage import InsightGenderAge, face_square
from tests.factories.graphs import make_graph

BOX = np.array([40, 20, 60, 60], np.float32)  # centre 50, 40; the square around it has 60 px
KPS = np.array([[44, 32], [56, 32], [50, 40], [45, 50], [55, 50]], np.float32)


def mean_colours(path: Path, side_px: int = 96) -> Path:
    """A graph of the real input and output shape: red is female, green is male, blue over 255 is the age over 100."""
    return make_graph(
        path,
        [("ReduceMean", ["input"], "colours", {"axes": [2, 3], "keepdims": 0}), ("Mul", ["colours", "scale"], "output")],
        (["n", 3, side_px, side_px], ["n", 3]),
        {"scale": [1 / 255, 1 / 255, 1 / 255]},
    )  # fmt: skip


@pytest.mark.parametrize(("colour", "gender"), [((200, 100, 51), "female"), ((100, 200, 51), "male")])
def test_a_made_graph_gets_rgb_from_0_to_255_and_its_output_is_read_as_female_male_age(
    tmp_path: Path, colour: tuple[int, int, int], gender: str
) -> None:
    model = InsightGenderAge(mean_colours(tmp_path / "genderage.onnx"))
    (guess,) = model.estimate([np.full((100, 100, 3), colour, np.uint8)], [BOX], [KPS])
    assert (guess.gender, guess.age) == (gender, 20)


def test_the_square_is_centred_on_the_box_with_one_and_a_half_of_its_longer_side() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[10:70, 20:80] = 255
    square = face_square(picture, BOX)
    assert square.shape == (96, 96, 3)
    assert square.min() >= 100
    assert face_square(picture, BOX + np.array([-8, 0, 8, 0], np.float32)).min() >= 100, (
        "the shorter side plays no part"
    )
    outside = face_square(picture, BOX + 30)
    assert outside[-1, -1].max() == 0, "black where the picture ends"


def test_a_box_without_area_another_graph_and_no_numbers_are_named(tmp_path: Path) -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    model = InsightGenderAge(mean_colours(tmp_path / "genderage.onnx"))
    with pytest.raises(ModelError, match="has no area"):
        model.estimate([picture], [np.array([5, 5, 5, 5], np.float32)], [KPS])
    with pytest.raises(WeightsError, match="another graph than expected"):
        InsightGenderAge(mean_colours(tmp_path / "other.onnx", 112))
    mean = ("ReduceMean", ["less"], "output", {"axes": [2, 3], "keepdims": 0})
    root = [("Sub", ["one", "input"], "rest"), ("Sqrt", ["rest"], "less"), mean]  # no number for anything but black
    sizes = (["n", 3, 96, 96], ["n", 3])
    broken = InsightGenderAge(make_graph(tmp_path / "nan.onnx", root, sizes, {"one": [1.0]}))
    with pytest.raises(ModelError, match="expected 3 finite numbers"):
        broken.estimate([picture + np.uint8(200)], [BOX], [KPS])
    never = [("Sub", ["input", "one"], "rest"), *root[1:]]
    with pytest.raises(WeightsError, match="no finite values for a blank image"):
        InsightGenderAge(make_graph(tmp_path / "never.onnx", never, sizes, {"one": [1.0]}))
