"""Conversion of quantised ONNX graphs into plain float graphs, for ``hifidata weights pull``.

OpenCV's zoo quantises the weights of a graph in blocks, and older exports list the weights as inputs. ONNX Runtime and
OpenCV refuse such graphs. The conversion computes each node whose inputs are all constants, such as DequantizeLinear of a
weight, and stores the result as a weight. The output for an image stays the same. The same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx.reference import ReferenceEvaluator

from hifidata.core.errors import WeightsError


def plain_float(source: Path) -> bytes:
    """Make a graph with float weights and the images as its only input. Raises WeightsError."""
    return _serialised(_folded(source))


def plain_float_any_size(source: Path) -> bytes:
    """Make the same for a convolutional graph of images (1, 3, h, w), with open h and w. Raises WeightsError."""
    model = _folded(source)
    for number, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[number].dim_param = name
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = f"cells of {output.name}"
    return _serialised(model)


def _folded(source: Path) -> onnx.ModelProto:
    """Return the graph without constant nodes, without listed weights and without sizes of inner arrays."""
    try:
        model = onnx.load(source)
        graph = model.graph
        known = {weight.name for weight in graph.initializer}
        if not graph.node:
            raise ValueError("it has no nodes")
        constant: list[onnx.NodeProto] = []
        rest: list[onnx.NodeProto] = []
        for node in graph.node:
            is_constant = known.issuperset(node.input)
            (constant if is_constant else rest).append(node)
            known.update(node.output if is_constant else ())
        used = list(dict.fromkeys(name for node in rest for name in node.input))
        weights = _computed(model, constant, [name for name in used if name in known])
        inputs = [item for item in graph.input if item.name in used and item.name not in known]
    except (OSError, DecodeError, ValueError, KeyError, TypeError, RuntimeError, NotImplementedError) as error:
        raise WeightsError(f"{source}: no ONNX graph with constant weights: {' '.join(str(error).split())}") from error
    for field, items in (
        (graph.node, rest),
        (graph.input, inputs),
        (graph.initializer, weights),
        (graph.value_info, []),
    ):
        del field[:]
        field.extend(items)
    return model


def _computed(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], names: Sequence[str]) -> list[onnx.TensorProto]:
    """Run the constant nodes with ONNX's reference implementation; returns the named arrays as weights."""
    ends = [onnx.helper.make_empty_tensor_value_info(name) for name in names]
    part = onnx.helper.make_graph(nodes, "constants", [], ends, model.graph.initializer)
    constants = onnx.helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
    arrays = ReferenceEvaluator(constants).run(None, {})
    return [onnx.numpy_helper.from_array(np.asarray(array), name) for array, name in zip(arrays, names, strict=True)]


def _serialised(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))
