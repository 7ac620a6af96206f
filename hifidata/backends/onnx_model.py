"""One ONNX graph, checked when it is opened: what every ONNX backend builds on.

Workers are processes, one per core, so a session has one thread. Where CUDA can be used, it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from hifidata.errors import ModelError, WeightsError

Shape = tuple[Union[int, None], ...]  # noqa: UP007

ORT_ERRORS: tuple[type[Exception], ...] = tuple(
    kind for kind in vars(ort_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)
)
"""ONNX Runtime's exceptions; they have no common base of their own."""

CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
"""Full float32, and no timing of algorithms: the same numbers in every worker."""


class OnnxModel:
    """An ONNX Runtime session that takes arrays in the graph's input order and returns its outputs in order.

    Args:
        path: the graph.
        inputs: what the graph must take, by input name, or by position where the names do not matter. ``None`` stands
            for any size. A size that the graph leaves open fits every number.
        threads: inside one call; more than one only where a worker has the machine to itself.

    Attributes:
        inputs: input shapes by name, in order, as the graph states them; None for open sizes.
        outputs: output names in order.
        batch: fixed first size of the first input; None where the graph takes any batch.
        provider: ``CUDAExecutionProvider`` or ``CPUExecutionProvider``.

    Raises:
        WeightsError: no graph, truncated, or one with other inputs.
    """

    def __init__(
        self, path: Path, inputs: Mapping[str, Shape] | Sequence[Shape] | None = None, threads: int = 1
    ) -> None:
        self.path = path
        self._session = _open(path, threads)
        self.inputs: dict[str, Shape] = {
            node.name: tuple(size if isinstance(size, int) else None for size in node.shape)
            for node in self._session.get_inputs()
        }
        self.outputs = tuple(node.name for node in self._session.get_outputs())
        self.provider: str = self._session.get_providers()[0]
        if inputs is not None and not self._takes(inputs):
            raise WeightsError(
                f"{path}: another graph than expected: it takes {_words(self.inputs)}, expected {_words(inputs)}; "
                "put the right file in its place (`hifidata weights verify` names it)"
            )

    @property
    def batch(self) -> int | None:
        """The fixed batch size of the first input; None: any."""
        return next(iter(self.inputs.values()))[0]

    def __call__(self, *arrays: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Runs the graph on its inputs in order. Raises ModelError, in one line, where the runtime refuses."""
        try:
            result: list[NDArray[np.float32]] = self._session.run(None, dict(zip(self.inputs, arrays, strict=True)))
        except ORT_ERRORS as error:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise ModelError(f"{self.path.name}: refused input of shape {shapes}: {_one_line(error)}") from error
        return result

    def _takes(self, expected: Mapping[str, Shape] | Sequence[Shape]) -> bool:
        if isinstance(expected, Mapping):
            pairs = [(self.inputs.get(name), shape) for name, shape in expected.items()]
        else:
            pairs = list(zip(self.inputs.values(), expected, strict=False))
        return len(expected) == len(self.inputs) and all(got is not None and _fits(got, shape) for got, shape in pairs)


def _open(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # graphs with fixed output sizes warn at every call that has another size
    providers: list[Any] = ["CPUExecutionProvider"]
    # Ray hides the GPUs from workers that asked for none; the provider would then fail, loudly, on every session.
    if "CUDAExecutionProvider" in ort.get_available_providers() and os.environ.get("CUDA_VISIBLE_DEVICES") not in (
        "",
        "-1",
    ):
        providers.insert(0, ("CUDAExecutionProvider", CUDA_OPTIONS))
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except ORT_ERRORS as error:
        raise WeightsError(
            f"{path}: not a complete ONNX graph ({path.stat().st_size if path.exists() else 0} bytes): "
            f"{_one_line(error)}; get it again with `hifidata weights pull`"
        ) from error


def _fits(got: Shape, expected: Shape) -> bool:
    pairs = zip(got, expected, strict=False)
    return len(got) == len(expected) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _words(shapes: Mapping[str, Shape] | Sequence[Shape]) -> str:
    named = shapes.items() if isinstance(shapes, Mapping) else (("", shape) for shape in shapes)
    words = (f"{name}[{', '.join('?' if size is None else str(size) for size in shape)}]" for name, shape in named)
    return ", ".join(words) or "nothing"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
