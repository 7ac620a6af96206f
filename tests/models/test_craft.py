"""CRAFT beside PP-OCR: sizes, order and regions on made graphs; the real network where its file is at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hifidata.config.recipe import load_recipe
from hifidata.core.errors import WeightsError
from hifidata.models import registry
from hifidata.models.protocols import Faces, RgbU8, TextRegions
from hifidata.models.text.craft import MIN_PROBABILITY, RapidOcrCraft, merge, regions_of
from hifidata.models.text.lines import LETTERS, UNREAD
from hifidata.stages.watermark import certainty, face_region
from hifidata.weights.find import find_weight
from tests.conftest import PROJECT_ROOT
from tests.factories.graphs import make_graph
from tests.models.test_rapidocr import written_on

OPEN = [1, 3, "height", "width"]
FIRST, LAST = [1, 2, "height", "width"], [1, "height", "width", 2]
BRIGHTNESS = [
    ("ReduceMean", ["input"], "grey", {"axes": [1], "keepdims": 1}),
    ("AveragePool", ["grey"], "half", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("Add", ["half", "much"], "links"),
    ("Concat", ["half", "links"], "maps", {"axis": 1}),
]
"""Stands in for CRAFT: what is brighter than the mean of photos is called a letter, and everything a link."""


def brightness(path: Path, axis: str) -> Path:
    end = (
        ("Identity", ["maps"], "output")
        if axis == "first"
        else ("Transpose", ["maps"], "output", {"perm": [0, 2, 3, 1]})
    )
    return make_graph(path, [*BRIGHTNESS, end], (OPEN, FIRST if axis == "first" else LAST), {"much": 9.0})


def text(*regions: tuple[tuple[int, int, int, int], str, float]) -> TextRegions:
    """Upright regions, each with corners (x1, y1, x2, y2), text and score."""
    quads = [[(x1, y1), (x2, y1), (x2, y2), (x1, y2)] for (x1, y1, x2, y2), _, _ in regions]
    return TextRegions(
        np.array(quads, np.float32).reshape(-1, 4, 2),
        tuple(words for _, words, _ in regions),
        np.array([score for _, _, score in regions], np.float32),
    )


@pytest.mark.parametrize("axis", ["first", "last"])
@pytest.mark.parametrize("shape", [(300, 200), (90, 110), (1300, 900)])
def test_a_made_graph_s_letters_lie_where_they_are_in_the_picture_whatever_its_size(
    tmp_path: Path, axis: str, shape: tuple[int, int]
) -> None:
    height, width = shape
    picture = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = round(0.2 * width), round(0.5 * height), round(0.6 * width), round(0.6 * height)
    picture[y1:y2, x1:x2] = 255
    (found,) = RapidOcrCraft(brightness(tmp_path / "craft.onnx", axis)).find([picture])
    assert found.texts == (LETTERS,)
    assert found.scores[0] == 1
    corners = np.concatenate([found.quads_px[0].min(axis=0), found.quads_px[0].max(axis=0)])
    assert np.abs(corners - [x1, y1, x2, y2]).max() < 0.02 * max(shape)


def test_a_map_s_places_side_by_side_are_one_region_as_certain_as_the_surest_of_them() -> None:
    probability = np.full((40, 60), 0.9 * MIN_PROBABILITY, np.float32)
    probability[10:14, 10:30], probability[12, 20] = 0.3, 0.8
    probability[14, 30] = 1.2  # by its corner, and more than certain
    probability[30:33, 50:55] = 0.5
    found = regions_of(probability, (80, 180))
    assert found.texts == (LETTERS, LETTERS)
    assert found.scores.tolist() == pytest.approx([1.0, 0.5])
    assert found.quads_px[1].min(axis=0) == pytest.approx((50.5 * 3, 30.5 * 2), abs=0.1)
    assert found.quads_px[1].max(axis=0) == pytest.approx((54.5 * 3, 32.5 * 2), abs=0.1)


def test_an_empty_map_has_no_regions() -> None:
    found = regions_of(np.zeros((40, 60), np.float32), (80, 120))
    assert (found.quads_px.shape, found.texts, found.scores.shape) == ((0, 4, 2), (), (0,))


def test_what_was_read_stays_and_takes_the_certainty_of_the_letters_on_it() -> None:
    lines = text(((0, 0, 100, 20), "TWO WORDS", 0.3), ((0, 50, 100, 70), UNREAD, 0.9), ((0, 80, 100, 99), "PRESS", 0.8))
    on_lines = [((2, 1, 45, 19), LETTERS, 0.6), ((55, 1, 98, 25), LETTERS, 0.7), ((0, 81, 99, 98), LETTERS, 0.2)]
    elsewhere = [((200, 0, 240, 20), LETTERS, 0.4), ((50, 15, 98, 35), LETTERS, 0.9)]
    found = merge(lines, text(*on_lines, *elsewhere))
    assert found.texts == ("TWO WORDS", "PRESS", LETTERS, LETTERS)
    assert found.scores.tolist() == pytest.approx([0.7, 0.8, 0.4, 0.9])
    assert found.quads_px[:, 0].tolist() == [[0, 0], [0, 80], [200, 0], [50, 15]]
    assert merge(text(), text()).texts == ()


def test_letters_count_in_the_place_of_an_eye_too() -> None:
    eye = np.array([(45, 45), (55, 45), (55, 55), (45, 55)], np.float32)
    kps_px = np.array([(50, 50), (100, 50), (75, 75), (60, 100), (90, 100)], np.float32)
    assert certainty(eye, LETTERS, 0.5, kps_px) == 0.5 > certainty(eye, UNREAD, 0.5, kps_px)


def test_another_graph_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "craft.onnx"
    with pytest.raises(WeightsError, match="another graph than expected: for 64 x 64 pixels it gives") as caught:
        RapidOcrCraft(make_graph(path, [("Identity", ["input"], "output")], (OPEN, OPEN)))
    assert "\n" not in str(caught.value)
    fixed = ([1, 3, 64, 64], [1, 2, 32, 32])
    with pytest.raises(WeightsError, match="has a fixed input size"):
        RapidOcrCraft(make_graph(path, [*BRIGHTNESS, ("Identity", ["maps"], "output")], fixed, {"much": 9.0}))
    path.write_bytes(brightness(path, "first").read_bytes()[:100])
    with pytest.raises(WeightsError, match="not a complete ONNX graph"):
        RapidOcrCraft(path)


def test_a_folder_of_one_s_own_holds_the_graph_under_its_name(tmp_path: Path) -> None:
    brightness(tmp_path / "craft_mlt_25k.onnx", "first")
    section = load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [f"watermark.{line}" for line in (
        "model=rapidocr_craft", f"folder={tmp_path}")]).watermark  # fmt: skip
    assert section.min_text_score == 0.6
    assert registry.load("watermark", "rapidocr_craft", section).name == "rapidocr_craft"


def test_the_paper_s_recipe_takes_the_certainty_of_the_model_that_is_named() -> None:
    paper = PROJECT_ROOT / "pipelines" / "paper.yaml"
    named = [[], ["watermark.model=rapidocr_craft"]]
    assert [load_recipe(paper, overrides).watermark.min_text_score for overrides in named] == [0.25, 0.6]


def test_the_real_network_finds_words_and_none_on_plain_faces(portraits: list[tuple[RgbU8, Faces]]) -> None:
    try:
        path = find_weight("craft")
    except WeightsError as error:
        pytest.skip(str(error))
    craft = RapidOcrCraft(path)
    floor = (registry.find("watermark", "rapidocr_craft").defaults or {})["min_text_score"]
    for picture, faces in portraits[:3]:
        region, _ = face_region(picture, faces.xyxy_px[0])
        plain, written = craft.find([region, written_on(region, "SAMPLE", opacity=0.5)])
        assert plain.scores.max(initial=0) < floor
        assert written.scores.max(initial=0) >= floor
