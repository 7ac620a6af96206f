"""MediaPipe's selfie segmentation: a person's outline at 256 x 256, in milliseconds. Too coarse for single hairs.

Source: MediaPipe's selfie segmentation (ML Kit, 2021), a TensorFlow Lite file that OpenCV runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from hifidata.core.errors import ModelError, WeightsError
from hifidata.models.protocols import F32, RgbU8

SIDE_PX = 256


class SelfieMatting:
    """Sees the whole picture at 256 x 256, whatever its shape.

    Args:
        weights: the ``.tflite`` file.

    Raises:
        WeightsError: the file is no complete TensorFlow Lite model, or another one.
    """

    name = "selfie"

    def __init__(self, weights: Path) -> None:
        try:
            self._net = cv2.dnn.readNetFromTFLite(str(weights))
            output = self._forward(np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8))
        except cv2.error as error:
            raise WeightsError(
                f"{weights}: not a complete TensorFlow Lite model of the selfie segmentation: "
                f"{' '.join(str(error).split())}; get it again with `hifidata weights pull`"
            ) from error
        if output.shape != (1, 1, SIDE_PX, SIDE_PX):
            raise WeightsError(
                f"{weights}: expected an output of shape (1, 1, {SIDE_PX}, {SIDE_PX}), got {output.shape}: another model"
            )

    def matte(self, pictures: Sequence[RgbU8]) -> list[F32]:
        """One alpha (H, W) float32 per picture, 0 background to 1 person. Raises ModelError where OpenCV refuses."""
        try:
            return [
                np.asarray(cv2.resize(self._forward(picture)[0, 0], picture.shape[1::-1]), np.float32)
                for picture in pictures
            ]
        except cv2.error as error:
            raise ModelError(f"{self.name}: OpenCV refused a picture: {' '.join(str(error).split())}") from error

    def _forward(self, picture: RgbU8) -> F32:
        """(1, 1, 256, 256) in 0 to 1."""
        small = cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
        self._net.setInput(cv2.dnn.blobFromImage(small, 1 / 255))
        return np.asarray(self._net.forward(), np.float32)
