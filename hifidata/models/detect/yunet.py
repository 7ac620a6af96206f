"""YuNet: faces with five points, from a graph of 0.3 MB with a permissive licence.

Input: the canvas (640, 640, 3) uint8 BGR. Output of ``cv2.FaceDetectorYN``: (n, 15) x, y, width, height, five points, score.

Source: Wu, Peng and Yu, YuNet, Machine Intelligence Research, 2023; graph of OpenCV's model zoo. Our use: a second pass for
large faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from hifidata.core.errors import ModelError, WeightsError
from hifidata.models.detect.five_point import CANVAS_PX, NMS_IOU, find_faces
from hifidata.models.protocols import F32, Faces, RgbU8
from hifidata.weights.messages import right_file

MIN_SCORE = 0.8
"""Finds 279 of 279 faces and no face in 14 images of animals and objects (0.7: in two). OpenCV's 0.9 misses 4 faces."""

MAX_CANDIDATES = 5000


class YuNet:
    """Detects faces with ``cv2.FaceDetectorYN``.

    Args:
        weights: the graph.

    Raises:
        WeightsError: OpenCV cannot read the graph, or it is not YuNet.
    """

    name = "yunet"

    def __init__(self, weights: Path) -> None:
        size_px = (CANVAS_PX, CANVAS_PX)
        logging = cv2.utils.logging
        level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # the exception contains the logged message
        try:
            self._net = cv2.FaceDetectorYN.create(str(weights), "", size_px, MIN_SCORE, NMS_IOU, MAX_CANDIDATES)
            self._net.detect(
                np.zeros((CANVAS_PX, CANVAS_PX, 3), np.uint8)
            )  # any graph opens, but another graph fails here
        except cv2.error as error:
            raise WeightsError(
                f"{weights}: OpenCV cannot run this file as YuNet: {_one_line(error)}; {right_file(weights)}"
            ) from error
        finally:
            logging.setLogLevel(level)

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        """Detect the faces of each image; scores 0 to 1, no 68 landmarks. Raises ModelError if OpenCV fails."""
        return [find_faces(picture, self._network) for picture in pictures]

    def _network(self, canvas: RgbU8) -> F32:
        try:
            _, found = self._net.detect(np.ascontiguousarray(canvas[..., ::-1]))
        except cv2.error as error:
            raise ModelError(f"{self.name}: OpenCV refused a canvas of {canvas.shape}: {_one_line(error)}") from error
        if found is None:
            return np.empty((0, 15), np.float32)
        low, size, kps, score = np.split(np.asarray(found, np.float32), [2, 4, 14], axis=1)
        return np.concatenate([low, low + size, score, kps], axis=1)


def _one_line(error: cv2.error) -> str:
    """Join OpenCV's message, which quotes the failed condition in several lines that begin with ``>``."""
    return " ".join(word for word in str(error.err).split() if word != ">")[:200]
