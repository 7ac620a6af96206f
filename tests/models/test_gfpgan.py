"""GFPGAN's loading and pixel code on made graphs; no real weights, so nothing here says how faces come out."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hifidata.core.errors import UsageError, WeightsError
from hifidata.models.restore.gfpgan import Gfpgan, GfpganTorch
from tests.conftest import PROJECT_ROOT
from tests.factories.graphs import make_graph

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
    with pytest.raises(UsageError, match=r"install all three .* or set restore\.model: gfpgan") as caught:
        GfpganTorch(tmp_path / "GFPGANv1.4.pth")
    assert "\n" not in str(caught.value)


TORCHVISION_STAND_IN = {
    "__init__.py": "",
    "transforms/__init__.py": "",
    "transforms/functional.py": (
        "import enum\n"
        "InterpolationMode = enum.Enum('InterpolationMode', 'NEAREST BILINEAR')\n"
        "def rotate(*_): raise NotImplementedError\n"
        "normalize = rotate\n"
    ),
}
"""What spandrel imports of it, for networks that are not GFPGAN."""

RUN_A_RANDOM_GFPGAN = """
import sys
from pathlib import Path

import numpy as np
import torch
from spandrel.architectures.GFPGAN import GFPGAN

from hifidata.models.restore.gfpgan import GfpganTorch, to_levels, to_network
from hifidata.core.errors import WeightsError

torch.set_num_threads(2)
torch.manual_seed(0)
made = GFPGAN(
    out_size=512, num_style_feat=512, channel_multiplier=2, decoder_load_path=None, fix_decoder=False, num_mlp=8,
    input_is_latent=True, different_w=True, narrow=1, sft_half=True,
)
folder = Path(sys.argv[1])
torch.save({"params_ema": made.state_dict()}, folder / "GFPGANv1.4.pth")
restorer = GfpganTorch(folder / "GFPGANv1.4.pth")
faces = [np.random.default_rng(seed).integers(0, 256, (512, 512, 3), np.uint8) for seed in (0, 1)]
first, second = restorer.restore(faces)
for restored in (first, second):
    assert (restored.shape, restored.dtype) == ((512, 512, 3), np.float32)
    assert np.isfinite(restored).all() and restored.min() >= 0 and restored.max() <= 255
assert np.ptp(first) > 1 and not np.array_equal(first, second)
assert np.array_equal(first, restorer.restore(faces[:1])[0])
with torch.inference_mode():
    own = made.eval()(torch.from_numpy(to_network(faces[0])), return_rgb=False, randomize_noise=False)[0]
np.testing.assert_allclose(first, to_levels(own.numpy()), atol=0.05)

whole = (folder / "GFPGANv1.4.pth").read_bytes()
(folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
torch.save({"params_ema": {"conv.weight": torch.zeros(3, 3)}}, folder / "other.pth")
torch.save(made.state_dict(), folder / "bare.pth")
for name in ("cut", "other", "bare"):
    try:
        GfpganTorch(folder / f"{name}.pth")
    except WeightsError as error:
        assert f"{name}.pth: cannot be loaded" in str(error) and "\\n" not in str(error), error
    else:
        raise AssertionError(f"{name}.pth was taken")
for path in folder.glob("*.pth"):  # a gigabyte
    path.unlink()
print("restored")
"""


@pytest.mark.slow
def test_a_random_gfpgan_through_the_real_spandrel_and_a_torchvision_stand_in_proves_the_pth_path_not_the_faces(
    tmp_path: Path,
) -> None:
    pytest.importorskip("torch", reason="the .pth needs torch")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path / "site"]
    packages = ["spandrel==0.4.2", "einops", "safetensors"]
    done = subprocess.run([*pip, *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"spandrel could not be installed: {done.stderr.strip().splitlines()[-1]}")
    if importlib.util.find_spec("torchvision") is None:
        for name, source in TORCHVISION_STAND_IN.items():
            path = tmp_path / "site" / "torchvision" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
    paths = os.pathsep.join([str(tmp_path / "site"), str(PROJECT_ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", RUN_A_RANDOM_GFPGAN, tmp_path], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": paths},
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "restored"), done.stderr
