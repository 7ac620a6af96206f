"""MediaPipe's selfie segmentation: the outline of a person in milliseconds, too coarse for single hairs.

Input: (1, 3, 256, 256) float32 RGB in 0..1, the whole image without its aspect ratio. Output: (1, 1, 256, 256) in 0..1.

Source: MediaPipe selfie segmentation (ML Kit, 2021). Our use: OpenCV runs the TensorFlow Lite file.
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
    """Computes coarse alpha mattes.

    Args:
        weights: the ``.tflite`` file.

    Raises:
        WeightsError: the file is not a complete TensorFlow Lite model, or another model.
    """

    name = "selfie"

    def __init__(self, weights: Path) -> None:
        try:
            self._net = cv2.dnn.readNetFromTFLite(str(weights))
            output = self._forward(np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8))
        except cv2.error as error:
            raise WeightsError(
                f"{weights}: not a complete TensorFlow Lite model of the selfie segmentation: "
                f"{' '.join(str(error).split())}; download it again with `hifidata weights pull selfie`"
            ) from error
        if output.shape != (1, 1, SIDE_PX, SIDE_PX):
            raise WeightsError(
                f"{weights}: another model than expected: output {output.shape}, expected (1, 1, {SIDE_PX}, {SIDE_PX}); "
                "download it again with `hifidata weights pull selfie`"
            )

    def matte(self, pictures: Sequence[RgbU8]) -> list[F32]:
        """Compute the alpha (H, W) float32 of each image, 0 background to 1 person. Raises ModelError if OpenCV fails."""
        try:
            return [
                np.asarray(cv2.resize(self._forward(picture)[0, 0], picture.shape[1::-1]), np.float32)
                for picture in pictures
            ]
        except cv2.error as error:
            raise ModelError(f"{self.name}: OpenCV refused an image: {' '.join(str(error).split())}") from error

    def _forward(self, picture: RgbU8) -> F32:
        small = cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
        self._net.setInput(cv2.dnn.blobFromImage(small, 1 / 255))
        return np.asarray(self._net.forward(), np.float32)
