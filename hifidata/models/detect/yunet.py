"""YuNet: faces with five points, from a graph of 0.2 MB whose licence allows any use.

Input: (1, 3, h, w) float32 BGR in 0..255; h and w are multiples of 32, at most 640. Output: class scores, object scores, boxes
and points at the strides 8, 16 and 32, one row per cell.

Source: Wu, Peng and Yu, YuNet, Machine Intelligence Research, 2023; graph and decoding of OpenCV's model zoo. Our use: a second
pass for large faces, as for all five-point detectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from hifidata.models.detect.five_point import CANVAS_PX, find_faces
from hifidata.models.protocols import F32, Faces, RgbU8
from hifidata.models.runtime.onnx import OnnxModel

STRIDES_PX = (8, 16, 32)
MIN_SCORE = 0.8
"""Finds 277 of 279 faces, and no face in 14 images of animals and objects. At 0.75 it finds 278, and faces in three backgrounds.
The two faces look down, in shade or from the side."""


class YuNet:
    """Detects faces with any YuNet graph of 2023.

    Args:
        weights: the graph; its height and width are open or 640.

    Raises:
        WeightsError: the graph has other inputs or outputs.
    """

    name = "yunet"

    def __init__(self, weights: Path) -> None:
        cells = [(CANVAS_PX // stride) ** 2 for stride in STRIDES_PX]
        outputs = [(n_cells, size) for size in (1, 1, 4, 10) for n_cells in cells]
        self._graph = OnnxModel(weights, inputs=[(1, 3, CANVAS_PX, CANVAS_PX)], outputs=outputs)
        sides = next(iter(self._graph.inputs.values()))[2:]
        self._step_px = max(STRIDES_PX) if sides == (None, None) else CANVAS_PX

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        """Detect the faces of each image; scores 0 to 1, no 68 landmarks. Raises ModelError if the model fails."""
        return [find_faces(picture, self._network, self._step_px) for picture in pictures]

    def _network(self, canvas: RgbU8) -> F32:
        outputs = [output[0] for output in self._graph(cv2.dnn.blobFromImage(canvas, swapRB=True))]
        levels = [
            _decoded(canvas.shape[1] // stride, stride, *outputs[level :: len(STRIDES_PX)])
            for level, stride in enumerate(STRIDES_PX)
        ]
        return np.concatenate(levels)


def _decoded(columns: int, stride: int, kinds: F32, objects: F32, boxes: F32, points: F32) -> F32:
    """Decode the likely faces of one stride; returns (n, 15) rows in canvas pixels.

    Args:
        columns: cells in a row of the canvas.
        stride: side of a cell in pixels.
        kinds, objects: (cells, 1) scores in 0..1; the score of a face is their geometric mean.
        boxes: (cells, 4) offset of the centre from the cell, and log of width and height, in strides.
        points: (cells, 10) offsets of the five points from the cell, in strides.
    """
    scores = np.sqrt(kinds.clip(0, 1) * objects.clip(0, 1))
    likely = np.flatnonzero(scores >= MIN_SCORE)
    cells = np.stack([likely % columns, likely // columns], axis=1).astype(np.float32)  # (n, 2) x and y
    centres, sides = cells + boxes[likely, :2], np.exp(boxes[likely, 2:])
    rows = [
        (centres - sides / 2) * stride,
        (centres + sides / 2) * stride,
        scores[likely],
        (np.tile(cells, 5) + points[likely]) * stride,
    ]
    return np.concatenate(rows, axis=1)
