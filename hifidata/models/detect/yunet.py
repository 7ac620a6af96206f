"""Faces with five points by YuNet: 0.3 MB, permissively licensed, in OpenCV's own runner.

Source: Wu, Peng and Yu, YuNet, Machine Intelligence Research, 2023.
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
"""Finds 279 of 279 faces and nothing in 14 pictures of animals and objects; at 0.7 two of those have one, OpenCV's 0.9 misses 4."""

MAX_CANDIDATES = 5000


class YuNet:
    """``cv2.FaceDetectorYN`` on the canvas.

    Args:
        weights: the graph.

    Raises:
        WeightsError: OpenCV cannot read it, or it is no YuNet.
    """

    name = "yunet"

    def __init__(self, weights: Path) -> None:
        size_px = (CANVAS_PX, CANVAS_PX)
        logging = cv2.utils.logging
        level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # what it logs of a bad file is in its exception, too
        try:
            self._net = cv2.FaceDetectorYN.create(str(weights), "", size_px, MIN_SCORE, NMS_IOU, MAX_CANDIDATES)
            self._net.detect(np.zeros((CANVAS_PX, CANVAS_PX, 3), np.uint8))  # any graph can be opened, not any run
        except cv2.error as error:
            raise WeightsError(
                f"{weights}: OpenCV cannot run this as YuNet: {_one_line(error)}; {right_file(weights)}"
            ) from error
        finally:
            logging.setLogLevel(level)

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        """One ``Faces`` per picture, scores 0 to 1, without 68 landmarks. Raises ModelError where OpenCV refuses."""
        return [find_faces(picture, self._look) for picture in pictures]

    def _look(self, canvas: RgbU8) -> F32:
        try:
            _, found = self._net.detect(np.ascontiguousarray(canvas[..., ::-1]))
        except cv2.error as error:
            raise ModelError(f"{self.name}: OpenCV refused a canvas of {canvas.shape}: {_one_line(error)}") from error
        if found is None:
            return np.empty((0, 15), np.float32)
        # OpenCV: x, y, width, height, five points, score
        low, size, kps, score = np.split(np.asarray(found, np.float32), [2, 4, 14], axis=1)
        return np.concatenate([low, low + size, score, kps], axis=1)


def _one_line(error: cv2.error) -> str:
    """What OpenCV says, which quotes the condition that failed over several lines beginning with ``>``."""
    return " ".join(word for word in str(error.err).split() if word != ">")[:200]
