"""Open-NSFW: the pixel code on a made graph, the real file on real portraits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hifidata.core.errors import ModelError, WeightsError
from hifidata.models.protocols import RgbU8
from hifidata.models.safety.open_nsfw import OpenNsfw
from tests.factories.graphs import make_graph


def blue_and_red(path: Path, side_px: int = 224, factor: float = 1.0) -> Path:
    """A graph that gives the mean of blue and of red, as it sees them."""
    return make_graph(
        path,
        [("ReduceMean", ["input"], "colours", {"axes": [1, 2], "keepdims": 0}), ("MatMul", ["colours", "weights"], "output")],
        (["n", side_px, side_px, 3], ["n", 2]),
        {"weights": np.array([[1, 0], [0, 0], [0, 1]]) * factor},
    )  # fmt: skip


def test_a_made_graph_gets_the_centre_as_bgr_minus_the_mean(tmp_path: Path) -> None:
    picture = np.zeros((512, 1024, 3), np.uint8)
    picture[40:-40, 80:-80] = (250, 10, 90)  # the graph sees 448 x 896 of it
    (red,) = OpenNsfw(blue_and_red(tmp_path / "net.onnx")).nudity([picture])
    assert red == pytest.approx(0.95 * 250 - 123, abs=12)
    assert OpenNsfw(blue_and_red(tmp_path / "net.onnx")).nudity([]) == []


def test_another_graph_and_no_number_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="another graph than expected"):
        OpenNsfw(blue_and_red(tmp_path / "net.onnx", 256))
    root = [("Sqrt", ["input"], "root"), ("ReduceMean", ["root"], "m", {"axes": [1, 2], "keepdims": 0}), ("MatMul", ["m", "w"], "output")]  # fmt: skip
    sizes = (["n", 224, 224, 3], ["n", 2])
    broken = OpenNsfw(make_graph(tmp_path / "nan.onnx", root, sizes, {"w": np.ones((3, 2))}))
    with pytest.raises(ModelError, match="not finite"):
        broken.nudity([np.zeros((300, 300, 3), np.uint8)])


def test_real_portraits_of_dressed_people_are_safe(
    real_photos: list[RgbU8], weights_here: Callable[[str], Path]
) -> None:
    assert max(OpenNsfw(weights_here("open_nsfw")).nudity(real_photos)) < 0.2
