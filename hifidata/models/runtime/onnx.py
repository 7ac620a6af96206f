"""One ONNX graph, checked when it is opened: what every ONNX backend builds on.

Workers are processes, one per core, so a session has one thread. Where it computes: ``providers``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from hifidata.core.errors import ModelError, UsageError, WeightsError
from hifidata.models.runtime import device
from hifidata.weights.messages import right_file

Shape = tuple[Union[int, None], ...]  # noqa: UP007

ORT_ERRORS: tuple[type[Exception], ...] = tuple(
    kind for kind in vars(ort_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)
)
"""ONNX Runtime's exceptions; they have no common base of their own."""

TRIED_BYTES = 300 * 10**6
"""Larger graphs are not run when they are opened: GFPGAN's 340 MB take seconds for one face."""


class OnnxModel:
    """An ONNX Runtime session that takes arrays in the graph's input order and returns its outputs in order.

    Args:
        path: the graph.
        inputs: what the graph must take, by input name, or by position where the names do not matter. ``None`` stands
            for any size, and in front for a batch that is open or 1: backends send what they have. A size that the graph
            leaves open fits every number.
        threads: inside one call; more than one only where a worker has the machine to itself.

    Attributes:
        inputs: input shapes by name, in order, as the graph states them; None for open sizes.
        outputs: output names in order.
        batch: fixed first size of the first input; None where the graph takes any batch.
        provider: ``CUDAExecutionProvider`` or ``CPUExecutionProvider``.

    Raises:
        WeightsError: no graph, truncated, or one with other inputs, of another type or with a fixed batch.
        UsageError: a GPU is here, and ONNX Runtime cannot use it.
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
        for node in self._session.get_inputs():
            if node.type != "tensor(float)":
                raise WeightsError(
                    f"{path}: input {node.name} is a {node.type}, expected tensor(float); export the model in float32 "
                    f"({right_file(path)})"
                )
        if inputs is None:
            return
        if not self._takes(inputs):
            raise WeightsError(
                f"{path}: another graph than expected: it takes {_words(self.inputs)}, expected {_words(inputs)}; "
                f"{right_file(path)}"
            )
        asked = list(inputs.values() if isinstance(inputs, Mapping) else inputs)
        if asked and asked[0][0] is None and self.batch not in (None, 1):
            raise WeightsError(
                f"{path}: its batch is fixed to {self.batch}: it takes {_words(self.inputs)}; export the model with an open "
                f"batch or 1 ({right_file(path)})"
            )
        by_name = inputs if isinstance(inputs, Mapping) else dict(zip(self.inputs, inputs, strict=True))
        self._blank_sizes = [
            tuple(size or wanted or 1 for size, wanted in zip(shape, by_name[name], strict=True))
            for name, shape in self.inputs.items()
        ]

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

    def try_out(self, outputs: Sequence[Shape]) -> list[NDArray[np.float32]]:
        """Runs the graph once on zeros of the sizes it was opened with, so that another model is found before any work.

        Args:
            outputs: what it must give, in order, without sizes of 1 in front; ``None`` stands for any size. A graph may
                give more.

        Returns:
            The outputs; nothing of a graph that is too large to be run for this.

        Raises:
            WeightsError: it does not run, gives other shapes, or numbers that are not finite.
        """
        if self.path.stat().st_size > TRIED_BYTES:
            return []
        try:
            got = self(*(np.zeros(sizes, np.float32) for sizes in self._blank_sizes))
        except ModelError as error:
            raise WeightsError(
                f"{self.path}: does not run on a blank picture: {error}; {right_file(self.path)}"
            ) from error
        cores = [_core(output.shape) for output in got]
        fits = all(_fits(core, shape) for core, shape in zip(cores, outputs, strict=False))
        if len(got) < len(outputs) or not fits:
            raise WeightsError(
                f"{self.path}: another graph than expected: for a blank picture it gives {_words(cores)}, expected "
                f"{_words(outputs)}; {right_file(self.path)}"
            )
        if not all(output.size and np.isfinite(output).all() for output in got[: len(outputs)]):
            raise WeightsError(
                f"{self.path}: gives no finite numbers for a blank picture, so it is damaged or another graph; "
                f"{right_file(self.path)}"
            )
        return got

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
    options.log_severity_level = 4  # what fails is an exception; warnings come at every call with another output size
    wanted = device.wanted()
    try:
        session = ort.InferenceSession(str(path), options, providers=wanted)
    except ORT_ERRORS as error:
        if len(wanted) > 1 and _opens_on_cpu(path, options):
            raise UsageError(device.refusal(path.name, _one_line(error))) from error
        raise WeightsError(
            f"{path}: not a complete ONNX graph ({path.stat().st_size if path.exists() else 0} bytes): "
            f"{_one_line(error)}; {right_file(path)}"
        ) from error
    device.check(session, path.name)
    return session


def _opens_on_cpu(path: Path, options: ort.SessionOptions) -> bool:
    """Whether the graph is good: then it is the GPU that has no room for it, or its libraries."""
    try:
        ort.InferenceSession(str(path), options, providers=[device.CPU])
    except ORT_ERRORS:
        return False
    return True


def _fits(got: Shape, expected: Shape) -> bool:
    pairs = zip(got, expected, strict=False)
    return len(got) == len(expected) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _core(shape: Shape) -> Shape:
    """The shape without sizes of 1 in front: exports of one model differ in them."""
    while len(shape) and shape[0] == 1:
        shape = shape[1:]
    return shape


def _words(shapes: Mapping[str, Shape] | Sequence[Shape]) -> str:
    named = shapes.items() if isinstance(shapes, Mapping) else (("", shape) for shape in shapes)
    words = (f"{name}[{', '.join('?' if size is None else str(size) for size in shape)}]" for name, shape in named)
    return ", ".join(words) or "nothing"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
