"""The selfie net on real photos; MODNet's and PP-Matting's sizes and pixel code on made graphs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from hifidata.core.errors import ModelError, UsageError, WeightsError
from hifidata.image.decode import Limits, decode
from hifidata.models.matting.modnet import ModNet
from hifidata.models.matting.pp_matting import PpMatting
from hifidata.models.matting.resize import to_alpha, work_size
from hifidata.models.matting.selfie import SelfieMatting
from hifidata.models.protocols import Faces, RgbU8
from hifidata.stages.matting import alpha_png
from tests.factories.graphs import make_graph

OPEN = ([1, 3, "height", "width"], [1, 1, "height", "width"])


@pytest.fixture(scope="module")
def selfie(assets: Path) -> SelfieMatting:
    folder = assets / "weights" / "matting"
    return SelfieMatting(folder / "selfiesegmentation_mlkit-256x256-2021_01_19-v1215.f16.tflite")


def test_on_real_portraits_the_face_is_person_and_the_upper_corners_are_not(
    selfie: SelfieMatting, portraits: list[tuple[RgbU8, Faces]]
) -> None:
    for (picture, faces), alpha in zip(
        portraits[1:], selfie.matte([picture for picture, _ in portraits[1:]]), strict=True
    ):
        assert alpha.shape == picture.shape[:2]
        assert 0 <= alpha.min() <= alpha.max() <= 1
        x1, y1, x2, y2 = np.clip(faces.xyxy_px[0], 0, None).astype(int).tolist()
        assert alpha[y1:y2, x1:x2].mean() > 0.95
        assert max(alpha[:40, :40].mean(), alpha[:40, -40:].mean()) < 0.05


def test_a_truncated_selfie_net_is_one_clear_line(assets: Path, tmp_path: Path) -> None:
    path = tmp_path / "selfie.tflite"
    path.write_bytes(next((assets / "weights" / "matting").iterdir()).read_bytes()[:100_000])
    with pytest.raises(WeightsError, match="not a complete TensorFlow Lite model") as caught:
        SelfieMatting(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("picture_wh", "enlarge", "size"),
    [
        ((1024, 1024), True, (512, 512)),
        ((1024, 1536), True, (512, 768)),
        ((1000, 1300), True, (512, 640)),
        ((300, 400), True, (512, 672)),
        ((300, 400), False, (288, 384)),
        ((20, 900), False, (32, 896)),
    ],
)
def test_sides_are_multiples_of_32_and_the_shorter_is_512(
    picture_wh: tuple[int, int], enlarge: bool, size: tuple[int, int]
) -> None:
    assert work_size(*picture_wh, enlarge) == size


def test_on_a_made_graph_modnets_alpha_comes_back_in_the_pictures_size_and_range(tmp_path: Path) -> None:
    brightness = [("ReduceMean", ["input"], "output", {"axes": [1], "keepdims": 1})]
    matter = ModNet(make_graph(tmp_path / "modnet.onnx", brightness, OPEN))
    picture = np.zeros((600, 840, 3), np.uint8)
    picture[:, 420:] = 255
    alpha = matter.matte([picture])[0]
    assert alpha.shape == (600, 840)
    assert alpha[:, :410].max() == 0  # -1 of the graph
    assert alpha[:, 430:].min() == pytest.approx(1)


def test_an_alpha_of_another_size_or_with_nan_is_a_model_error() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ModelError, match="expected a finite alpha"):
        to_alpha(np.zeros((1, 1, 32, 64), np.float32), (64, 64), picture, "modnet")
    with pytest.raises(ModelError, match="expected a finite alpha"):
        to_alpha(np.full((1, 1, 64, 64), np.nan, np.float32), (64, 64), picture, "modnet")


def test_the_png_holds_the_alpha_to_one_level_and_the_same_bytes_twice() -> None:
    alpha = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    png = alpha_png(alpha)
    assert png == alpha_png(alpha.copy())
    levels = decode(png, Limits(min_side_px=1)).rgb_u8[..., 0]
    np.testing.assert_allclose(levels / 255, alpha, atol=0.5 / 255 + 1e-6)


@pytest.mark.skipif(importlib.util.find_spec("paddle") is not None, reason="paddlepaddle is installed")
def test_without_paddle_pp_matting_says_how_to_give_it_its_own_environment(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"runtime_env: \{pip: \[paddlepaddle, setuptools\]\}") as caught:
        PpMatting(tmp_path)
    assert "\n" not in str(caught.value)
