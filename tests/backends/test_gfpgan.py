"""GFPGAN's loading and pixel code on made graphs; no real weights, so nothing here says how faces come out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from hifidata.backends.gfpgan import Gfpgan, GfpganTorch
from hifidata.errors import UsageError, WeightsError
from tests.made_graphs import make_graph

FACES = ([1, 3, 512, 512], [1, 3, 512, 512])


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)


def test_a_made_graph_that_changes_nothing_gives_the_same_levels_back(tmp_path: Path, face: np.ndarray) -> None:
    restorer = Gfpgan(make_graph(tmp_path / "same.onnx", [("Identity", ["input"], "output")], FACES))
    restored = restorer.restore([face, face[::-1]])
    np.testing.assert_allclose(restored[0], face, atol=1e-3)
    np.testing.assert_allclose(restored[1], face[::-1], atol=1e-3)


def test_a_made_graph_sees_minus_one_to_one_and_its_excess_is_cut_off(tmp_path: Path) -> None:
    doubled = Gfpgan(make_graph(tmp_path / "x2.onnx", [("Add", ["input", "input"], "output")], FACES))
    for level, expected in ((0, 0), (64, 0.5), (127, 126.5), (191, 254.5), (255, 255)):
        restored = doubled.restore([np.full((512, 512, 3), level, np.uint8)])[0]
        np.testing.assert_allclose(restored, expected, atol=1e-3)


def test_a_graph_for_other_faces_is_refused_before_any_work(tmp_path: Path) -> None:
    path = make_graph(tmp_path / "small.onnx", [("Identity", ["input"], "output")], ([1, 3, 256, 256],) * 2)
    with pytest.raises(WeightsError, match="another graph than expected"):
        Gfpgan(path)


@pytest.mark.skipif(
    all(importlib.util.find_spec(name) for name in ("torch", "torchvision", "spandrel")),
    reason="all three are installed",
)
def test_without_torch_torchvision_and_spandrel_the_pth_says_what_to_install_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"install all three .* or take restore\.model: gfpgan") as caught:
        GfpganTorch(tmp_path / "GFPGANv1.4.pth")
    assert "\n" not in str(caught.value)
