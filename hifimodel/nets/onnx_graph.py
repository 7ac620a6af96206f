"""An ONNX graph of a face recogniser as a torch module with gradients.

ONNX Runtime has no backward pass, and general converters need torchvision. Recognisers use about a dozen operators. Tests
compare the module with ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from hifidata.core.errors import WeightsError
from hifimodel.errors import one_line

Attributes = Mapping[str, Any]
Inputs = list[Any]
"""Tensors; None for an absent optional input."""


@dataclass(frozen=True)
class Node:
    """An operator: name, names of inputs ("" for an absent input), output and attributes."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Attributes


class OnnxGraph(nn.Module):
    """A frozen ONNX graph with one input and one output.

    Args:
        path: the file. A batch dimension that was exported as 1 is free.

    Raises:
        WeightsError: not ONNX, or an operator that is not supported.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            graph = onnx.load(str(path)).graph
        except (OSError, DecodeError) as error:
            reason = one_line(error)
            raise WeightsError(f"{path}: cannot be read as ONNX: {reason}; name the recogniser's .onnx file") from error
        unknown = sorted({node.op_type for node in graph.node} - OPERATORS.keys() - {"Constant"})
        if unknown:
            raise WeightsError(
                f"{path}: operators {', '.join(unknown)} are not supported; use a CNN recogniser, or add them to "
                "hifimodel/nets/onnx_graph.py"
            )
        constants = {item.name: item for item in graph.initializer}
        constants |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
        self._slots = {name: f"constant_{number}" for number, name in enumerate(constants)}
        for name, slot in self._slots.items():
            self.register_buffer(slot, torch.tensor(numpy_helper.to_array(constants[name])), persistent=False)
        self._nodes = [_node(node) for node in graph.node if node.op_type != "Constant"]
        inputs = [value.name for value in graph.input if value.name not in constants]
        if not (inputs and self._nodes and graph.output):
            raise WeightsError(f"{path}: contains no network; name the recogniser's .onnx file")
        self._input, self._output = inputs[0], graph.output[0].name

    def forward(self, images: Tensor) -> Tensor:
        """Return the output of the graph for normalised images (B, 3, H, W)."""
        values: dict[str, Any] = {name: getattr(self, slot) for name, slot in self._slots.items()}
        values |= {self._input: images, "": None}
        for node in self._nodes:
            values[node.output] = OPERATORS[node.op]([values[name] for name in node.inputs], node.attributes)
        result: Tensor = values[self._output]
        return result


def _node(node: onnx.NodeProto) -> Node:
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    return Node(node.op_type, tuple(node.input), node.output[0], attributes)


def _conv(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, weight, *bias = inputs
    pads = attributes.get("pads", [0, 0, 0, 0])
    top, left, bottom, right = pads
    symmetric = (top, left) == (bottom, right)
    return functional.conv2d(
        x if symmetric else functional.pad(x, (left, right, top, bottom)),
        weight,
        bias[0] if bias else None,
        stride=attributes.get("strides", [1, 1]),
        padding=(top, left) if symmetric else 0,
        dilation=attributes.get("dilations", [1, 1]),
        groups=attributes.get("group", 1),
    )


def _batch_norm(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, weight, bias, mean, variance = inputs
    return functional.batch_norm(x, mean, variance, weight, bias, eps=attributes.get("epsilon", 1e-5))


def _gemm(inputs: Inputs, attributes: Attributes) -> Tensor:
    a, b, *c = inputs
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    product = attributes.get("alpha", 1.0) * (a @ b)
    return product + attributes.get("beta", 1.0) * c[0] if c else product


def _clip(inputs: Inputs, attributes: Attributes) -> Tensor:
    low, high = [*inputs[1:], None, None][:2] if len(inputs) > 1 else (attributes.get("min"), attributes.get("max"))
    return inputs[0].clamp(*(value.item() if isinstance(value, Tensor) else value for value in (low, high)))


def _reshape(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, shape = inputs
    wanted = [x.shape[place] if size == 0 else size for place, size in enumerate(shape.tolist())]
    if wanted[0] == 1:  # the batch size of the export
        wanted[0] = x.shape[0]
    return x.reshape(wanted)


OPERATORS: Mapping[str, Callable[[Inputs, Attributes], Tensor]] = {
    "Add": lambda inputs, _: inputs[0] + inputs[1],
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Conv": _conv,
    "Div": lambda inputs, _: inputs[0] / inputs[1],
    "Dropout": lambda inputs, _: inputs[0],
    "Flatten": lambda inputs, attributes: inputs[0].flatten(attributes.get("axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda inputs, _: inputs[0].mean(dim=(2, 3), keepdim=True),
    "Identity": lambda inputs, _: inputs[0],
    "MatMul": lambda inputs, _: inputs[0] @ inputs[1],
    "Mul": lambda inputs, _: inputs[0] * inputs[1],
    "PRelu": lambda inputs, _: functional.prelu(inputs[0], inputs[1].flatten()),
    "Relu": lambda inputs, _: functional.relu(inputs[0]),
    "Reshape": _reshape,
    "Sub": lambda inputs, _: inputs[0] - inputs[1],
}
