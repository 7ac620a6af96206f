"""FQA and eDifFIQA on made graphs, LightQNet on the real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from hifidata import backends
from hifidata.backends.base import Faces, RgbU8
from hifidata.backends.ediffiqa import EDifFiqa
from hifidata.backends.fqa import ModelScopeFqa
from hifidata.backends.lightqnet import LightQNet
from hifidata.errors import ModelError, WeightsError
from hifidata.image.align import norm_crop
from tests.made_graphs import make_graph

FACE = ([1, 3, 112, 112], [1, 3])
KPS = np.array([[80, 90], [130, 90], [105, 120], [85, 150], [125, 150]], np.float32)
BOX = np.array([50, 40, 160, 180], np.float32)


@pytest.fixture
def channel_means(tmp_path: Path) -> Path:
    """A graph whose output vector holds the mean of each input channel."""
    nodes = [("ReduceMean", ["input"], "output", {"axes": [2, 3], "keepdims": 0})]
    return make_graph(tmp_path / "means.onnx", nodes, FACE)


@pytest.mark.parametrize("scorer", [ModelScopeFqa, EDifFiqa])
def test_on_a_made_graph_the_score_is_the_mean_output_for_the_aligned_face_in_minus_one_to_one(
    scorer: Callable[[Path], ModelScopeFqa | EDifFiqa], channel_means: Path
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (240, 240, 3), np.uint8)
    score = scorer(channel_means).score(picture, BOX, KPS, None)["quality_score"]
    assert score == pytest.approx(norm_crop(picture, KPS).mean() / 127.5 - 1, abs=1e-5)


def test_on_a_made_graph_the_network_gets_red_first(tmp_path: Path) -> None:
    nodes = [
        ("Mul", ["input", "red_only"], "red"),
        ("ReduceMean", ["red"], "output", {"axes": [2, 3], "keepdims": 0}),
    ]
    red_only = np.array([3, 0, 0]).reshape(1, 3, 1, 1)
    scorer = ModelScopeFqa(make_graph(tmp_path / "red.onnx", nodes, FACE, {"red_only": red_only}))
    picture = np.full((240, 240, 3), (255, 0, 0), np.uint8)
    assert scorer.score(picture, BOX, KPS, None)["quality_score"] == pytest.approx(1, abs=1e-5)


def test_a_graph_for_other_pictures_is_refused_before_any_work(tmp_path: Path) -> None:
    path = make_graph(tmp_path / "other.onnx", [("Identity", ["input"], "output")], ([1, 3, 96, 96], [1, 3, 96, 96]))
    with pytest.raises(WeightsError, match="another graph than expected"):
        ModelScopeFqa(path)


def test_a_made_graph_that_gives_nan_is_a_model_error(tmp_path: Path) -> None:
    nodes = [("Sub", ["input", "two"], "negative"), ("Log", ["negative"], "output")]
    scorer = EDifFiqa(make_graph(tmp_path / "nan.onnx", nodes, (FACE[0], FACE[0]), {"two": [2.0]}))
    with pytest.raises(ModelError, match="expected a finite score, got nan"):
        scorer.score(np.zeros((240, 240, 3), np.uint8), BOX, KPS, None)


def test_each_scorer_brings_a_threshold_of_its_own_and_says_where_it_comes_from() -> None:
    floors = {name: (backend.defaults or {})["min_score"] for name, backend in backends.SCORERS.items()}
    assert floors["modelscope_fqa"] == 0.45  # the paper's number stays with the paper's model
    assert all(backend.origin for backend in backends.SCORERS.values())


@pytest.fixture(scope="module")
def lightqnet(assets: Path) -> LightQNet:
    return LightQNet(assets / "weights" / "lightqnet" / "lightqnet-dm050.pb")


def test_lightqnet_scores_every_portrait_above_its_threshold_and_a_covered_or_dark_face_lower(
    lightqnet: LightQNet, portraits: list[tuple[RgbU8, Faces]]
) -> None:
    floor = (backends.SCORERS["lightqnet"].defaults or {})["min_score"]
    for picture, faces in portraits:
        kps = faces.kps_px[0]
        covered = picture.copy()
        centre = kps.mean(axis=0)
        radius = 0.9 * float(np.linalg.norm(kps[1] - kps[0]))
        cv2.circle(covered, tuple(np.rint(centre).astype(int).tolist()), round(radius), (120, 110, 100), -1)
        scores = [
            lightqnet.score(shown, faces.xyxy_px[0], kps, None)["quality_score"] or 0.0
            for shown in (picture, covered, picture // 12)
        ]
        assert scores[0] >= floor
        assert scores[0] > max(scores[1:]) + 0.02


def test_lightqnet_gives_the_same_score_twice(lightqnet: LightQNet, portraits: list[tuple[RgbU8, Faces]]) -> None:
    picture, faces = portraits[0]
    scores = {lightqnet.score(picture, faces.xyxy_px[0], faces.kps_px[0], None)["quality_score"] for _ in range(3)}
    assert len(scores) == 1


def test_a_truncated_lightqnet_is_one_clear_line(assets: Path, tmp_path: Path) -> None:
    path = tmp_path / "lightqnet-dm050.pb"
    path.write_bytes((assets / "weights" / "lightqnet" / path.name).read_bytes()[:300_000])
    with pytest.raises(WeightsError, match="not a complete TensorFlow graph") as caught:
        LightQNet(path)
    assert "\n" not in str(caught.value)
