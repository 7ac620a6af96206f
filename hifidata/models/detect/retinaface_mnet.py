"""RetinaFace with a MobileNet-0.25 backbone: faces with five points.

Input: (1, 3, 640, 640) float32 BGR in 0..255 minus the mean. Output for 16800 priors: boxes (1, 16800, 4), scores (1, 16800,
2) and points (1, 16800, 10).

Source: Deng et al., RetinaFace, CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import cv2
import numpy as np

from hifidata.models.detect.five_point import CANVAS_PX, find_faces
from hifidata.models.protocols import F32, Faces, RgbU8
from hifidata.models.runtime.onnx import OnnxModel

MIN_SCORE = 0.8
"""Finds 279 of 279 faces, and a face in an image of a dog, as 0.9 does. A second face: in 2 of 279 portraits, at 0.5 in 10."""

MEAN_BGR = (104.0, 117.0, 123.0)
PRIOR_SIDES_PX = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
"""Sides of the priors by stride."""

CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2


class RetinaFaceMnet:
    """Detects faces with RetinaFace and decodes its outputs with the priors of its training.

    Args:
        weights: the graph.

    Raises:
        WeightsError: the graph has other inputs or outputs.
    """

    name = "retinaface_mnet"

    def __init__(self, weights: Path) -> None:
        self._priors = priors()
        outputs = [(len(self._priors), size) for size in (4, 2, 10)]
        self._graph = OnnxModel(weights, inputs=[(1, 3, CANVAS_PX, CANVAS_PX)], outputs=outputs)

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        """Detect the faces of each image; scores 0 to 1, no 68 landmarks. Raises ModelError if the model fails."""
        return [find_faces(picture, self._network) for picture in pictures]

    def _network(self, canvas: RgbU8) -> F32:
        outputs = self._graph(cv2.dnn.blobFromImage(canvas, mean=MEAN_BGR, swapRB=True))  # (1, 3, 640, 640)
        boxes, scores, points = (output[0] for output in outputs[:3])  # (16800, 4), (16800, 2), (16800, 10)
        likely = np.flatnonzero(scores[:, 1] >= MIN_SCORE)
        centre, size = np.split(self._priors[likely], 2, axis=1)
        middle = centre + boxes[likely, :2] * CENTRE_VARIANCE * size
        half = size * np.exp(boxes[likely, 2:] * SIZE_VARIANCE) / 2
        kps = np.tile(centre, 5) + points[likely] * CENTRE_VARIANCE * np.tile(size, 5)
        px = np.float32(CANVAS_PX)
        return np.concatenate([(middle - half) * px, (middle + half) * px, scores[likely, 1:], kps * px], axis=1)


def priors() -> F32:
    """Compute (16800, 4) centre x, y, width and height of the priors over the canvas side, by stride, row, column, size."""
    rows = []
    for stride, sides_px in PRIOR_SIDES_PX.items():
        steps = (np.arange(CANVAS_PX // stride) + 0.5) * stride / CANVAS_PX
        rows += [(x, y, side / CANVAS_PX, side / CANVAS_PX) for y, x, side in product(steps, steps, sides_px)]
    return np.array(rows, np.float32)
