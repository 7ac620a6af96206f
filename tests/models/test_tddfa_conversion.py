"""3DDFA_V2's files are made from what its authors publish.

Their pickle can be rebuilt to the byte. Their checkpoint lies nowhere here, so the known network is put into its layout.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hifidata.core.errors import WeightsError
from hifidata.models.face3d.tddfa_conversion import BLOCKS, N_PARAMETERS
from hifidata.models.registry import MADE_FILES, make
from hifidata.models.runtime.onnx import OnnxModel
from hifidata.weights.catalogue import CATALOGUE, Made
from tests.factories.tddfa import Arrays, authors_pickle, known_network_in_the_layout, layer_names, save


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def refusal(name: str, path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        make(name, path)
    assert str(caught.value).startswith(f"{path}: no ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_entry_that_is_made_has_somebody_who_makes_it() -> None:
    made = {name: weight.origin for name, weight in CATALOGUE.items() if isinstance(weight.origin, Made)}
    assert made.keys() == MADE_FILES.keys()
    assert [origin.source for origin in made.values()] == [CATALOGUE[origin.source.name] for origin in made.values()]


def test_the_authors_pickle_rebuilt_to_the_byte_becomes_the_known_npz(assets: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(authors_pickle(assets))
    assert sha256_of(make("3ddfa_mean_std", tmp_path / "x.pkl")) == CATALOGUE["3ddfa_mean_std"].sha256


class Trap:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch trapped",)


def test_a_pickle_of_anything_but_arrays_is_refused_and_runs_nothing(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole, path = authors_pickle(assets), tmp_path / "x.pkl"
    assert "it loads posix.system, which no array needs" in refusal("3ddfa_mean_std", path, pickle.dumps(Trap()))
    arrays = {"mean": np.zeros(62), "std": np.zeros(3)}
    for data in (b"", b"<html>", whole[:300], pickle.dumps([1]), pickle.dumps({"mean": 1}), pickle.dumps(arrays)):
        refusal("3ddfa_mean_std", path, data)
    pytest.importorskip("torch")
    refusal("3ddfa_mb05", path, pickle.dumps({"state_dict": Trap()}, protocol=2))
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_the_known_network_in_the_layout_of_the_authors_checkpoint_becomes_the_known_file_to_the_byte(
    assets: Path, tmp_path: Path, zipped: bool
) -> None:
    """That their own checkpoint does, this cannot show: it lies nowhere here."""
    state = known_network_in_the_layout(assets)
    state |= {"bn1.num_batches_tracked": np.array(7), "fc_lm.weight": np.zeros((136, 512), np.float32)}
    path = save(tmp_path / "x.pth", state, _use_new_zipfile_serialization=zipped)
    assert sha256_of(make("3ddfa_mb05", path)) == CATALOGUE["3ddfa_mb05"].sha256


def random_network(width: int = 4) -> Arrays:
    """A narrow network of the same layers, with normalisations that do change something."""
    rng = np.random.default_rng(0)
    state: Arrays = {}
    before = 3
    for number, (conv, norm) in enumerate(layer_names()):
        is_depthwise, is_first = number % 2 == 1, number == 0
        after = before if is_depthwise else min(width * 2 ** (number // 4), 64)
        side = 3 if is_first or is_depthwise else 1
        shape = (after, 1 if is_depthwise else before, side, side)
        state[f"{conv}.weight"] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        for part, low, high in (
            ("weight", 0.5, 2),
            ("bias", -0.5, 0.5),
            ("running_mean", -0.5, 0.5),
            ("running_var", 0.5, 2),
        ):
            state[f"{norm}.{part}"] = rng.uniform(low, high, after).astype(np.float32)
        before = after
    state["fc.weight"] = rng.normal(size=(N_PARAMETERS, before)).astype(np.float32)
    return state | {"fc.bias": rng.normal(size=N_PARAMETERS).astype(np.float32)}


def run_in_torch(state: Arrays, pixels: NDArray[Any]) -> NDArray[Any]:
    torch = pytest.importorskip("torch")
    functional, weights = torch.nn.functional, {name: torch.from_numpy(array) for name, array in state.items()}
    flow = torch.from_numpy(pixels)
    strides = [2, *(stride for block in BLOCKS.values() for stride in (block, 1))]
    for number, ((conv, norm), stride) in enumerate(zip(layer_names(), strides, strict=True)):
        kernel = weights[f"{conv}.weight"]
        groups = len(kernel) if number % 2 else 1
        flow = functional.conv2d(flow, kernel, stride=stride, padding=kernel.shape[2] // 2, groups=groups)
        parts = [weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        flow = functional.relu(functional.batch_norm(flow, *parts))
    return np.asarray(functional.linear(flow.mean((2, 3)), weights["fc.weight"], weights["fc.bias"]))


def test_a_made_network_of_the_same_layers_gives_torchs_numbers_with_its_normalisation_folded(tmp_path: Path) -> None:
    state = random_network()
    graph = make("3ddfa_mb05", save(tmp_path / "x.pth", state))
    (tmp_path / "x.onnx").write_bytes(graph)
    model = OnnxModel(tmp_path / "x.onnx", [(None, 3, 120, 120)])
    pixels = np.random.default_rng(1).normal(size=(3, 3, 120, 120)).astype(np.float32)
    expected = run_in_torch(state, pixels)
    assert expected.std() > 0.1
    assert np.abs(model(pixels)[0] - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_checkpoint_of_another_network_is_one_line(tmp_path: Path) -> None:
    state, path = random_network(), tmp_path / "x.pth"
    short = {name: array for name, array in state.items() if name != "dw6.bn_sep.running_var"}
    wrong = [
        (short, "dw6.bn_sep.running_var"),
        (state | {"fc.weight": np.zeros((1000, 64), np.float32)}, "its head is"),
        (state | {"dw6.conv_sep.weight": np.zeros((64, 3, 1, 1), np.float32)}, "kernel 26 is (64, 3, 1, 1), expected (64, 64, 1, 1)"),
        (state | {"conv1.weight": np.zeros(4, np.float32)}, ""),
    ]  # fmt: skip
    for changed, words in wrong:
        assert words in refusal("3ddfa_mb05", path, save(path, changed).read_bytes())
    for data in (b"", b"<html>", b"PK\x03\x04", save(path, state).read_bytes()[:-100]):
        refusal("3ddfa_mb05", path, data)
