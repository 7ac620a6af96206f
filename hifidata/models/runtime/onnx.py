"""ONNX graphs that are checked when they are opened; the base of all ONNX models.

Workers are processes, one per core, so a session has one thread. ``device`` selects its execution provider.
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
"""Exceptions of ONNX Runtime; they have no common base class."""

MAX_TRIAL_BYTES = 300 * 10**6
"""Larger graphs are not run when they are opened: GFPGAN (340 MB) takes seconds for one face."""


class OnnxModel:
    """An ONNX Runtime session. It takes arrays in the order of the graph's inputs and returns all outputs in order.

    Args:
        path: the graph.
        inputs: expected input shapes, by name or by position; None: not checked. A size of None fits any size; as first
            size it means that the graph must have an open batch or a batch of 1. An open size of the graph fits any number.
        outputs: expected output shapes, checked by running the graph on zeros, see ``try_out``; None: not checked.
        threads: threads of one call. Use more than 1 only if a worker has all cores of the machine.

    Attributes:
        inputs: input shapes of the graph by name, in order; None for open sizes.
        outputs: output names in order.
        blank_outputs: outputs of the check with zeros; empty without ``outputs`` or for a large graph.
        provider: ``CUDAExecutionProvider`` or ``CPUExecutionProvider``.

    Raises:
        WeightsError: the file is not a complete graph, or its inputs, type, batch or outputs differ.
        UsageError: ONNX Runtime cannot use the GPU of this machine.
    """

    def __init__(
        self,
        path: Path,
        inputs: Mapping[str, Shape] | Sequence[Shape] | None = None,
        outputs: Sequence[Shape] | None = None,
        threads: int = 1,
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
                    f"{path}: input {node.name} has type {node.type}, expected tensor(float); export the model in float32 "
                    f"({right_file(path)})"
                )
        if inputs is not None:
            self._check_inputs(inputs)
        self.blank_outputs = [] if outputs is None else self.try_out(outputs)

    @property
    def batch(self) -> int | None:
        """Fixed batch size of the first input; None: any."""
        return next(iter(self.inputs.values()))[0]

    def __call__(self, *arrays: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Run the graph on its inputs in order. Raises ModelError if the runtime refuses the inputs."""
        try:
            result: list[NDArray[np.float32]] = self._session.run(None, dict(zip(self.inputs, arrays, strict=True)))
        except ORT_ERRORS as error:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise ModelError(f"{self.path.name}: refused input of shape {shapes}: {_one_line(error)}") from error
        return result

    def try_out(self, outputs: Sequence[Shape]) -> list[NDArray[np.float32]]:
        """Run the graph once on zeros with the expected input sizes, to detect another model before any work.

        Args:
            outputs: expected output shapes in order, without leading sizes of 1; a size of None fits any size. The graph may
                have more outputs.

        Returns:
            The outputs; empty for a graph that is larger than ``MAX_TRIAL_BYTES``, which is not run.

        Raises:
            WeightsError: the graph fails, or its outputs have other shapes or are not finite.
        """
        if self.path.stat().st_size > MAX_TRIAL_BYTES:
            return []
        try:
            got = self(*(np.zeros(sizes, np.float32) for sizes in self._blank_sizes))
        except ModelError as error:
            raise WeightsError(f"{self.path}: fails on a blank image: {error}; {right_file(self.path)}") from error
        shapes = [_without_leading_ones(output.shape) for output in got]
        fits = all(_fits(shape, expected) for shape, expected in zip(shapes, outputs, strict=False))
        if len(got) < len(outputs) or not fits:
            raise WeightsError(
                f"{self.path}: another graph than expected: for a blank image it gives {_text(shapes)}, expected "
                f"{_text(outputs)}; {right_file(self.path)}"
            )
        if not all(output.size and np.isfinite(output).all() for output in got[: len(outputs)]):
            raise WeightsError(
                f"{self.path}: gives no finite values for a blank image, so it is damaged or another graph; "
                f"{right_file(self.path)}"
            )
        return got

    def _check_inputs(self, expected: Mapping[str, Shape] | Sequence[Shape]) -> None:
        by_name = expected if isinstance(expected, Mapping) else dict(zip(self.inputs, expected, strict=False))
        has_same_names = len(expected) == len(self.inputs) and by_name.keys() == self.inputs.keys()
        if not has_same_names or not all(_fits(shape, by_name[name]) for name, shape in self.inputs.items()):
            raise WeightsError(
                f"{self.path}: another graph than expected: it takes {_text(self.inputs)}, expected {_text(expected)}; "
                f"{right_file(self.path)}"
            )
        first = next(iter(expected.values() if isinstance(expected, Mapping) else expected), ())
        if first[:1] == (None,) and self.batch not in (None, 1):
            raise WeightsError(
                f"{self.path}: its batch is fixed to {self.batch}: it takes {_text(self.inputs)}; export the model with an open "
                f"batch or a batch of 1 ({right_file(self.path)})"
            )
        self._blank_sizes = [
            tuple(size or wanted or 1 for size, wanted in zip(shape, by_name[name], strict=True))
            for name, shape in self.inputs.items()
        ]


def _open(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = (
        4  # errors are exceptions; a warning would appear at each call with another output size
    )
    providers = device.session_providers()
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except ORT_ERRORS as error:
        if len(providers) > 1 and _opens_on_cpu(path, options):
            raise UsageError(device.gpu_message(path.name, _one_line(error))) from error
        raise WeightsError(
            f"{path}: not a complete ONNX graph ({path.stat().st_size if path.exists() else 0} bytes): "
            f"{_one_line(error)}; {right_file(path)}"
        ) from error
    device.check_provider(session, path.name)
    return session


def _opens_on_cpu(path: Path, options: ort.SessionOptions) -> bool:
    """Return whether the graph opens on the CPU; then the GPU or its libraries cause the error."""
    try:
        ort.InferenceSession(str(path), options, providers=[device.CPU])
    except ORT_ERRORS:
        return False
    return True


def _fits(got: Shape, expected: Shape) -> bool:
    pairs = zip(got, expected, strict=False)
    return len(got) == len(expected) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _without_leading_ones(shape: Shape) -> Shape:
    """Remove leading sizes of 1, which differ between exports of the same model."""
    while len(shape) and shape[0] == 1:
        shape = shape[1:]
    return shape


def _text(shapes: Mapping[str, Shape] | Sequence[Shape]) -> str:
    named = shapes.items() if isinstance(shapes, Mapping) else (("", shape) for shape in shapes)
    parts = (f"{name}[{', '.join('?' if size is None else str(size) for size in shape)}]" for name, shape in named)
    return ", ".join(parts) or "nothing"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
