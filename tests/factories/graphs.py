"""ONNX graphs made by tests: the form of a published model's inputs and outputs around trivial arithmetic.

What a test with such a graph proves is the code around the model: sizes, order, normalisation, what becomes of the output.
It says nothing about the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Size = int | str


def make_graph(
    path: Path,
    nodes: Sequence[tuple[str, Sequence[str], str] | tuple[str, Sequence[str], str, Mapping[str, Any]]],
    shapes: tuple[Sequence[Size], Sequence[Size]],
    constants: Mapping[str, Any] | None = None,
    kind: str = "FLOAT",
) -> Path:
    """Writes a graph from ``input`` to ``output``.

    Args:
        path: target.
        nodes: (operator, inputs, output) and, where it has some, attributes.
        shapes: of ``input`` and ``output``; a word stands for an open size.
        constants: further inputs of nodes, by name.
        kind: element type of ``input``, as ONNX calls it; ``output`` is always FLOAT.
    """
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, (getattr(onnx.TensorProto, kind), onnx.TensorProto.FLOAT)
    made = [helper.make_node(node[0], list(node[1]), [node[2]], **(node[3] if len(node) > 3 else {})) for node in nodes]
    fixed = [
        onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in (constants or {}).items()
    ]
    ends = [
        helper.make_tensor_value_info(name, element, list(shape))
        for name, element, shape in zip(("input", "output"), kinds, shapes, strict=True)
    ]
    graph = helper.make_graph(made, "made_by_a_test", ends[:1], ends[1:], fixed)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path
