"""Quantised graphs become plain float graphs with the same output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hifidata.core.errors import WeightsError
from hifidata.models import registry
from hifidata.models.runtime.float_graph import plain_float, plain_float_any_size
from hifidata.models.runtime.onnx import OnnxModel
from hifidata.weights.catalogue import CATALOGUE, Made
from hifidata.weights.find import sha256_of

SIDES = {"yunet": 64, "sface": 112}


def block_quantised(path: Path) -> Path:
    """A graph as OpenCV's zoo makes them: a weight of two blocks of 3 and 2 values, listed as an input, and a scalar."""
    generator = np.random.default_rng(0)
    arrays = {
        "quantised": generator.integers(-128, 127, (4, 20), np.int8),
        "scales": generator.uniform(0.01, 0.1, (4, 7)).astype(np.float32),
        "zero": np.zeros((4, 7), np.int8),
        "shape": np.array([4, 5, 2, 2], np.int64),
        "ratio": np.array(0.5, np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["quantised", "scales", "zero"], ["weight"], axis=1, block_size=3),
        helper.make_node("Reshape", ["weight", "shape"], ["kernel"]),
        helper.make_node("Conv", ["input", "kernel"], ["maps"]),
        helper.make_node("Mul", ["maps", "ratio"], ["output"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size, 8, 8])
        for name, size in (("input", 5), ("output", 4))
    ]
    listed = [helper.make_tensor_value_info("ratio", TensorProto.FLOAT, []), helper.make_tensor_value_info("kernel", TensorProto.FLOAT, [4, 5, 2, 2])]  # fmt: skip
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "made_by_a_test", [ends[0], *listed], [ends[1]], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=9), path)
    return path


def test_a_block_quantised_graph_gets_float_weights_one_input_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    source = block_quantised(tmp_path / "source.onnx")
    (tmp_path / "made.onnx").write_bytes(plain_float(source))
    made = onnx.load(tmp_path / "made.onnx")
    assert [node.op_type for node in made.graph.node] == ["Conv", "Mul"]
    assert [item.name for item in made.graph.input] == ["input"]
    assert {tuple(weight.dims) for weight in made.graph.initializer} == {(4, 5, 2, 2), ()}
    image = np.random.default_rng(1).uniform(0, 255, (1, 5, 8, 8)).astype(np.float32)
    quantised, scales = (numpy_helper.to_array(item) for item in onnx.load(source).graph.initializer[:2])
    kernel = (quantised.astype(np.float32) * scales.repeat(3, 1)[:, :20]).reshape(4, 5, 2, 2)
    (got,) = OnnxModel(tmp_path / "made.onnx")(image)
    windows = np.lib.stride_tricks.sliding_window_view(image[0], (2, 2), (1, 2))  # (5, 7, 7, 2, 2)
    assert np.allclose(got[0], np.einsum("chwyx,ocyx->ohw", windows, kernel) * 0.5, atol=1e-3)
    assert plain_float(source) == (tmp_path / "made.onnx").read_bytes()


def test_the_size_of_the_image_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / "made.onnx").write_bytes(plain_float_any_size(block_quantised(tmp_path / "source.onnx")))
    graph = OnnxModel(tmp_path / "made.onnx")
    assert graph.inputs == {"input": (1, 5, None, None)}
    assert graph(np.zeros((1, 5, 30, 20), np.float32))[0].shape == (1, 4, 29, 19)


@pytest.mark.parametrize("data", [b"", b"<html>", b"\x08\x09"], ids=["empty", "page", "no graph"])
def test_a_file_that_is_no_graph_is_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(data)
    with pytest.raises(WeightsError, match=r"net\.onnx: no ONNX graph with constant weights") as caught:
        plain_float(tmp_path / "net.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SIDES)
def test_the_float_file_of_a_package_has_its_pinned_hash_and_the_output_of_the_quantised_one(
    name: str, weights_here: Callable[[str], Path], tmp_path: Path
) -> None:
    weight = CATALOGUE[name]
    assert isinstance(weight.origin, Made)
    source, made = weights_here(weight.origin.source.name), tmp_path / weight.file
    made.write_bytes(registry.make(name, source))
    assert (made.stat().st_size, sha256_of(made)) == (weight.n_bytes, weight.sha256)
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, SIDES[name], SIDES[name])).astype(np.float32)
    expected = ReferenceEvaluator(onnx.load(source)).run(None, {next(iter(OnnxModel(made).inputs)): image})
    for got, wanted in zip(OnnxModel(made)(image), expected, strict=True):
        assert np.abs(got - wanted).max() < 1e-5
