"""What a picture costs a network in batches, over one at a time, and what a region costs over the whole.

    HIFI_WEIGHTS=FOLDER python -m benchmarks.batching

One thread, sessions as the workers open them; CPU time, on a GPU wall time. Most of the files fix their batch at one
picture: they are measured as copies with an open batch, whose answers must be those of single pictures.
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
"""How often each size is timed, in turns; the quickest counts."""
TOLERANCE = 1e-3
"""Of a network's largest answer: other sizes are added up in another order."""

OCR = Path(rapidocr.__file__).parent / "models"
Shape = tuple[int, ...]
F32 = NDArray[np.float32]


class Case(NamedTuple):
    """A network and the inputs to compare.

    Attributes:
        name: of the table's lines.
        weight: catalogue entry or file.
        base: (pictures, channels, height, width) of the input that the others are held against.
        others: such shapes by name.
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
        {"a 3:2 picture alone over one filled up to a square": (1, 3, 448, 640)},
    ),
    Case(
        "text detector, PP-OCRv6",
        OCR / "PP-OCRv6_det_small.onnx",
        (1, 3, 640, 960),
        {"the region of a face over a 3:2 picture": (1, 3, 320, 320)},
    ),
)


def rows() -> Iterator[tuple[str, str, str]]:
    """(what, measured, goal) lines of the table; one line where a network's file is not here."""
    for case in CASES:
        try:
            path = find_weight(case.weight) if isinstance(case.weight, str) else case.weight
            base_s, *others_s = _per_picture(path, [case.base, *case.others.values()])
        except UsageError as error:
            yield case.name, str(error), ""
            continue
        for what, other_s in zip(case.others, others_s, strict=True):
            yield f"{case.name}: {what}", f"{other_s / base_s:.2f} (of {base_s * 1e3:.1f} ms)", ""


def _per_picture(path: Path, shapes: Sequence[Shape]) -> list[float]:
    """Seconds a picture for inputs of these shapes. Raises RuntimeError where a batch answers other than its pictures."""
    pixels = np.random.default_rng(0)
    inputs = [pixels.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]
    with tempfile.TemporaryDirectory() as folder:
        model = OnnxModel(_with_open_batch(path, Path(folder)))
    for batch in inputs:
        _check(path, model, batch)  # warms the session up for this size, too
    clock = int(model.provider == "CPUExecutionProvider")
    rounds = [[seconds(lambda x=x: model(x))[1][clock] / len(x) for x in inputs] for _ in range(ROUNDS)]
    return [float(least) for least in np.min(rounds, axis=0)]


def _with_open_batch(path: Path, folder: Path) -> Path:
    """A copy of a graph whose first input and output size is open."""
    graph = onnx.load(path)
    for number, value in enumerate([*graph.graph.input, *graph.graph.output]):
        sizes = value.type.tensor_type.shape.dim
        if sizes:
            sizes[0].dim_param = "n" if value in graph.graph.input else f"n{number}"
    del graph.graph.value_info[:]  # noted for a batch of one
    copy = folder / path.name
    onnx.save(graph, copy)
    return copy


def _check(path: Path, model: OnnxModel, batch: F32) -> None:
    alone = zip(*(model(picture[None]) for picture in batch), strict=True)
    for together, single in zip(model(batch), alone, strict=True):
        # sorted, because SCRFD's export interleaves the rows of its pictures
        expected, got = np.sort(np.concatenate([answer.ravel() for answer in single])), np.sort(together.ravel())
        if np.abs(got - expected).max() > TOLERANCE * max(np.abs(expected).max(), 1.0):
            raise RuntimeError(f"{path.name}: in a batch of {len(batch)} it answers other than for single pictures")


def main() -> None:
    """Prints the table."""
    if sys.argv[1:]:
        sys.exit(f"usage: python -m benchmarks.batching\n{__doc__}")
    console.table("batches and regions, time of a picture", ("what", "measured", "goal"), rows())


if __name__ == "__main__":
    main()
