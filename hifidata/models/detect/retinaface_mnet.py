"""Faces with five points by RetinaFace with the MobileNet-0.25 body, as one ONNX graph of 640 x 640.

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
"""Finds 279 of 279 faces, and one in a dog, as 0.9 does; at 0.5 ten portraits of 279 have a second face, here two."""

MEAN_BGR = (104.0, 117.0, 123.0)
PRIOR_SIDES_PX = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
"""By stride."""

CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2


class RetinaFaceMnet:
    """The network's offsets, turned into faces with the priors it was trained with.

    Args:
        weights: the graph, with boxes, probabilities and points as outputs.

    Raises:
        WeightsError: the graph takes something else.
    """

    name = "retinaface_mnet"

    def __init__(self, weights: Path) -> None:
        self._graph = OnnxModel(weights, [(1, 3, CANVAS_PX, CANVAS_PX)])
        self._priors = priors()
        self._graph.try_out([(len(self._priors), size) for size in (4, 2, 10)])

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        """One ``Faces`` per picture, scores 0 to 1, without 68 landmarks. Raises ModelError where the model breaks."""
        return [find_faces(picture, self._look) for picture in pictures]

    def _look(self, canvas: RgbU8) -> F32:
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
    """(16800, 4) centre x, y, width and height of every prior, as shares of the canvas: by stride, row, column, size."""
    rows = []
    for stride, sides_px in PRIOR_SIDES_PX.items():
        steps = (np.arange(CANVAS_PX // stride) + 0.5) * stride / CANVAS_PX
        rows += [(x, y, side / CANVAS_PX, side / CANVAS_PX) for y, x, side in product(steps, steps, sides_px)]
    return np.array(rows, np.float32)
