"""Time per image of a network: in a batch over single images, and for a region over the whole image.

    HIFI_WEIGHTS=FOLDER python -m benchmarks.batching

One thread, with the session settings of the workers; CPU time on a CPU, wall time on a GPU. Most model files have a fixed
batch size of 1. They are measured as copies with a free batch size, whose outputs must equal the outputs of single images.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import rapidocr
from numpy.typing import NDArray

from benchmarks.overhead import seconds
from hifidata.cli import console
from hifidata.core.errors import UsageError
from hifidata.models.runtime.onnx import OnnxModel
from hifidata.weights.find import find_weight

ROUNDS = 8
"""Measurements of each size, in turns; the fastest counts."""
TOLERANCE = 1e-3
"""Tolerance relative to the network's largest output: another batch size changes the order of sums."""

OCR = Path(rapidocr.__file__).parent / "models"
Shape = tuple[int, ...]
F32 = NDArray[np.float32]


class Case(NamedTuple):
    """A network and the inputs to compare.

    Attributes:
        name: name in the table.
        weight: catalogue entry or file.
        base: (images, channels, height, width) of the reference input.
        others: further input shapes by name.
    """

    name: str
    weight: str | Path
    base: Shape
    others: Mapping[str, Shape]


CASES = (
    Case(
        "detector, SCRFD-2.5G",
        "scrfd_2.5g",
        (1, 3, 448, 640),
        {"4 at once over 1": (4, 3, 448, 640), "8 at once over 1": (8, 3, 448, 640)},
    ),
    Case(
        "embedder, MobileFaceNet",
        "mobilefacenet",
        (1, 3, 112, 112),
        {"8 at once over 1": (8, 3, 112, 112), "32 at once over 1": (32, 3, 112, 112)},
    ),
    Case(
        "text recogniser, PP-OCRv6",
        OCR / "PP-OCRv6_rec_small.onnx",
        (1, 3, 48, 320),
        {"4 at once over 1": (4, 3, 48, 320), "8 at once over 1": (8, 3, 48, 320)},
    ),
    Case(
        "detector, SCRFD-2.5G",
        "scrfd_2.5g",
        (1, 3, 640, 640),
        {"a 3:2 image over the image padded to a square": (1, 3, 448, 640)},
    ),
    Case(
        "text detector, PP-OCRv6",
        OCR / "PP-OCRv6_det_small.onnx",
        (1, 3, 640, 960),
        {"the region of a face over a 3:2 image": (1, 3, 320, 320)},
    ),
)


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield the table's rows (what, measured, goal), or one row for a network whose file is missing."""
    for case in CASES:
        try:
            path = find_weight(case.weight) if isinstance(case.weight, str) else case.weight
            base_s, *others_s = _per_image(path, [case.base, *case.others.values()])
        except UsageError as error:
            yield case.name, str(error), ""
            continue
        for what, other_s in zip(case.others, others_s, strict=True):
            yield f"{case.name}: {what}", f"{other_s / base_s:.2f} (of {base_s * 1e3:.1f} ms)", ""


def _per_image(path: Path, shapes: Sequence[Shape]) -> list[float]:
    """Return the seconds per image for each shape. Raises RuntimeError if a batch changes the outputs."""
    pixels = np.random.default_rng(0)
    inputs = [pixels.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]
    with tempfile.TemporaryDirectory() as folder:
        model = OnnxModel(_with_free_batch_size(path, Path(folder)))
    for batch in inputs:
        _check(path, model, batch)  # also warms up the session for this shape
    clock = int(model.provider == "CPUExecutionProvider")
    rounds = [[seconds(lambda x=x: model(x))[1][clock] / len(x) for x in inputs] for _ in range(ROUNDS)]
    return [float(least) for least in np.min(rounds, axis=0)]


def _with_free_batch_size(path: Path, folder: Path) -> Path:
    """Write a copy of a graph with a free first dimension of inputs and outputs."""
    graph = onnx.load(path)
    for number, value in enumerate([*graph.graph.input, *graph.graph.output]):
        sizes = value.type.tensor_type.shape.dim
        if sizes:
            sizes[0].dim_param = "n" if value in graph.graph.input else f"n{number}"
    del graph.graph.value_info[:]  # contains shapes for a batch of one
    copy = folder / path.name
    onnx.save(graph, copy)
    return copy


def _check(path: Path, model: OnnxModel, batch: F32) -> None:
    singles = zip(*(model(image[None]) for image in batch), strict=True)
    for together, single in zip(model(batch), singles, strict=True):
        # Sorted, because SCRFD's export interleaves the rows of the images.
        expected, got = np.sort(np.concatenate([output.ravel() for output in single])), np.sort(together.ravel())
        if np.abs(got - expected).max() > TOLERANCE * max(np.abs(expected).max(), 1.0):
            raise RuntimeError(f"{path.name}: outputs of a batch of {len(batch)} differ from outputs of single images")


def main() -> None:
    """Print the table."""
    if sys.argv[1:]:
        sys.exit(f"usage: python -m benchmarks.batching\n{__doc__}")
    console.table("batches and regions, time per image", ("what", "measured", "goal"), rows())


if __name__ == "__main__":
    main()
