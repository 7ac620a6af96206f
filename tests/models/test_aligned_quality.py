"""FQA and eDifFIQA on made graphs, LightQNet on the real one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hifidata.core.errors import ModelError, WeightsError
from hifidata.image.align import norm_crop
from hifidata.models import registry
from hifidata.models.protocols import Faces, RgbU8
from hifidata.models.quality.ediffiqa import EDifFiqa
from hifidata.models.quality.fqa import ModelScopeFqa
from hifidata.models.quality.lightqnet import LightQNet
from tests.factories.graphs import make_graph

KPS = np.array([[80, 90], [130, 90], [105, 120], [85, 150], [125, 150]], np.float32)
BOX = np.array([50, 40, 160, 180], np.float32)


def brightness(path: Path, weights: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)) -> Path:
    """A graph that gives a weighted mean of the colours, 0 for black to 1 for white."""
    nodes = [
        ("Mul", ["input", "weights"], "weighted"),
        ("ReduceMean", ["weighted"], "mean", {"axes": [1, 2, 3], "keepdims": 0}),
        ("Add", ["mean", "half"], "output"),
    ]
    constants = {"weights": 1.5 * np.array(weights).reshape(1, 3, 1, 1), "half": [0.5]}
    return make_graph(path, nodes, ([1, 3, 112, 112], [1]), constants)


@pytest.mark.parametrize("scorer", [ModelScopeFqa, EDifFiqa])
def test_on_a_made_graph_the_score_is_the_mean_output_for_the_aligned_face_in_minus_one_to_one(
    scorer: Callable[[Path], ModelScopeFqa | EDifFiqa], tmp_path: Path
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (240, 240, 3), np.uint8)
    score = scorer(brightness(tmp_path / "mean.onnx")).score(picture, BOX, KPS, None)["quality_score"]
    assert score == pytest.approx(norm_crop(picture, KPS).mean() / 255, abs=1e-5)


def test_on_a_made_graph_the_network_gets_red_first(tmp_path: Path) -> None:
    scorer = ModelScopeFqa(brightness(tmp_path / "red.onnx", (1, 0, 0)))
    picture = np.full((240, 240, 3), (255, 0, 0), np.uint8)
    assert scorer.score(picture, BOX, KPS, None)["quality_score"] == pytest.approx(1, abs=1e-5)


def test_a_graph_for_other_pictures_is_refused_before_any_work(tmp_path: Path) -> None:
    path = make_graph(tmp_path / "other.onnx", [("Identity", ["input"], "output")], ([1, 3, 96, 96], [1, 3, 96, 96]))
    with pytest.raises(WeightsError, match="another graph than expected"):
        ModelScopeFqa(path)


MEAN = ("ReduceMean", ["input"], "mean", {"axes": [1, 2, 3], "keepdims": 0})
ONE = ([1, 3, 112, 112], [1])
OTHER_MEANINGS: dict[str, tuple[list[Any], tuple[list[int], list[int]], dict[str, Any]]] = {
    "seven and a half": ([MEAN, ("Add", ["mean", "c"], "output")], ONE, {"c": [7.5]}),
    "not a number": ([MEAN, ("Sub", ["mean", "c"], "less"), ("Log", ["less"], "output")], ONE, {"c": [2.0]}),
}


@pytest.mark.parametrize("scorer", [ModelScopeFqa, EDifFiqa])
@pytest.mark.parametrize("meaning", OTHER_MEANINGS)
def test_a_made_graph_whose_numbers_are_no_quality_is_refused_before_any_work(
    scorer: Callable[[Path], ModelScopeFqa | EDifFiqa], meaning: str, tmp_path: Path
) -> None:
    path = make_graph(tmp_path / "other.onnx", *OTHER_MEANINGS[meaning])
    with pytest.raises(WeightsError, match=r"for a blank face it gives .* 0 to 1; it is your own, not") as caught:
        scorer(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scorer", [ModelScopeFqa, EDifFiqa])
def test_a_real_embedder_in_the_place_of_a_quality_model_is_refused(
    scorer: Callable[[Path], ModelScopeFqa | EDifFiqa], assets: Path, tmp_path: Path
) -> None:
    path = shutil.copy(assets / "weights" / "mobilefacenet" / "MobileFaceNet.onnx", tmp_path / "fqa.onnx")
    with pytest.raises(WeightsError, match="for a blank face it gives 128 numbers from -"):
        scorer(Path(path))


@pytest.mark.parametrize("scorer", [ModelScopeFqa, EDifFiqa])
def test_a_real_detector_that_takes_pictures_of_any_size_is_no_quality_model(
    scorer: Callable[[Path], ModelScopeFqa | EDifFiqa], assets: Path
) -> None:
    with pytest.raises(WeightsError, match=r"for a blank face it gives 392 numbers from .* in output \(392, 1\)"):
        scorer(assets / "weights" / "scrfd" / "scrfd_2.5g_bnkps.onnx")


@pytest.mark.parametrize(
    ("shape", "fits"), [([1, 4], True), ([1, 4, 1], False), ([4, 1], False), ([1, 1, 2, 2], False)]
)
def test_a_made_graph_with_the_form_of_fqa_gives_one_row_for_a_face(
    shape: list[int], fits: bool, tmp_path: Path
) -> None:
    nodes = [MEAN, ("Add", ["mean", "four"], "output")]
    path = make_graph(tmp_path / "fqa.onnx", nodes, ([1, 3, 112, 112], shape), {"four": np.full(shape, 0.5)})
    if fits:
        picture = np.full((240, 240, 3), 127.5, np.uint8)
        assert ModelScopeFqa(path).score(picture, BOX, KPS, None)["quality_score"] == pytest.approx(0.5, abs=0.01)
    else:
        with pytest.raises(WeightsError, match="expected a row of numbers from 0 to 1"):
            ModelScopeFqa(path)


def test_what_a_made_graph_gives_for_one_face_and_is_no_quality_is_a_model_error(tmp_path: Path) -> None:
    path = make_graph(tmp_path / "steep.onnx", [MEAN, ("Mul", ["mean", "c"], "output")], ONE, {"c": [7.5]})
    scorer = EDifFiqa(path)  # 0 for a blank face
    with pytest.raises(
        ModelError, match=r"^steep.onnx: expected numbers from 0 to 1, got 7\.5 to 7\.5 in output \(1,\)$"
    ):
        scorer.score(np.full((240, 240, 3), 255, np.uint8), BOX, KPS, None)


def test_each_scorer_brings_a_threshold_of_its_own_and_says_where_it_comes_from() -> None:
    floors = {name: (backend.defaults or {})["min_score"] for name, backend in registry.SCORERS.items()}
    assert floors["modelscope_fqa"] == 0.45  # the paper's number stays with the paper's model
    assert all(spec.thresholds_from for spec in registry.SCORERS.values())


@pytest.fixture(scope="module")
def lightqnet(assets: Path) -> LightQNet:
    return LightQNet(assets / "weights" / "lightqnet" / "lightqnet-dm050.pb")


def test_lightqnet_scores_every_portrait_above_its_threshold_and_a_covered_or_dark_face_lower(
    lightqnet: LightQNet, portraits: list[tuple[RgbU8, Faces]]
) -> None:
    floor = (registry.SCORERS["lightqnet"].defaults or {})["min_score"]
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
