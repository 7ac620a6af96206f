"""What 3DDFA_V2's authors publish, made again from the files that were made of it: their pickle, and their checkpoint's layout."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hifidata.models.face3d.tddfa_conversion import BLOCKS, EPSILON
from hifidata.weights.catalogue import CATALOGUE

Arrays = dict[str, NDArray[Any]]


def authors_pickle(assets: Path) -> bytes:
    """Their pickle of mean and standard deviation, to the byte."""
    with np.load(assets / "weights" / "3ddfa" / "param_mean_std_62d_120x120.npz") as stored:
        data = pickle.dumps({name: stored[name] for name in ("mean", "std")}, protocol=3)
    data = data.replace(b"numpy._core", b"numpy.core").replace(b"\x89\x88\x87", b"K\x00K\x01\x87")
    if hashlib.sha256(data).hexdigest() != CATALOGUE["3ddfa_mean_std_pkl"].sha256:
        pytest.skip("this NumPy pickles otherwise than those of 2020 and today")
    return data


def layer_names() -> list[tuple[str, str]]:
    """Every convolution and the normalisation after it, in order."""
    parts = [(f"{block}.conv_{part}", f"{block}.bn_{part}") for block in BLOCKS for part in ("dw", "sep")]
    return [("conv1", "bn1"), *parts]


def known_network_in_the_layout(assets: Path) -> Arrays:
    """The weights of the known file behind normalisations that change nothing."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(assets / "weights" / "3ddfa" / "mb05_120x120.onnx").graph
    arrays = [onnx.numpy_helper.to_array(item) for item in graph.initializer]
    state: Arrays = {"fc_param.weight": arrays[-2], "fc_param.bias": arrays[-1]}
    for (conv, norm), kernel, bias in zip(layer_names(), arrays[:-2:2], arrays[1:-2:2], strict=True):
        zeros, ones = np.zeros_like(bias), np.ones_like(bias)
        state |= {f"{conv}.weight": kernel, f"{norm}.weight": ones, f"{norm}.bias": bias, f"{norm}.running_mean": zeros}
        state[f"{norm}.running_var"] = ones - np.float32(EPSILON)
    return state


def save(path: Path, state: Mapping[str, Any], **how: Any) -> Path:
    """A checkpoint of several GPUs, as torch writes it."""
    torch = pytest.importorskip("torch")
    named = {f"module.{name}": torch.from_numpy(np.array(array)) for name, array in state.items()}
    torch.save({"epoch": 50, "state_dict": named}, path, **how)
    return path
