"""Cuts people out of their background: the small selfie network, in OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from hifidata import weights
from hifidata.backends.base import F32, RgbU8
from hifidata.errors import WeightsError

INPUT_PX = 256


class SelfieMatting:
    """MediaPipe's selfie segmentation, 256 x 256. Coarse at hair, and sure of people alone.

    Args:
        path: the .tflite file; None: hifidata's weight folders are searched.

    Raises:
        WeightsError: the file is missing or is not a network.

    Source: stands in for the paper's PP-Matting (section 3.2), which needs an environment of its own.
    """

    name = "selfie"

    def __init__(self, path: Path | None = None) -> None:
        path = weights.find("selfie") if path is None else path
        try:
            self._net = cv2.dnn.readNetFromTFLite(str(path))
        except cv2.error as error:
            raise WeightsError(f"{path}: no TFLite network ({' '.join(str(error).split())}); get it again") from error

    def alpha(self, rgb_u8: RgbU8) -> F32:
        """(H, W) float32, 1 where the person is."""
        self._net.setInput(cv2.dnn.blobFromImage(rgb_u8, 1 / 255, (INPUT_PX, INPUT_PX)))
        small = self._net.forward().reshape(INPUT_PX, INPUT_PX)
        full = cv2.resize(small, rgb_u8.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return np.clip(full, 0, 1).astype(np.float32)


def on_ground(rgb_u8: RgbU8, alpha: F32, ground_rgb: tuple[int, int, int]) -> RgbU8:
    """The picture over one colour.

    Args:
        rgb_u8: (H, W, 3) uint8.
        alpha: (H, W) float32, 0 to 1.
        ground_rgb: for example white.

    Returns:
        (H, W, 3) uint8.
    """
    share = alpha[:, :, None]
    ground = np.array(ground_rgb, np.float32)
    return np.asarray(np.rint(rgb_u8 * share + ground * (1 - share)), np.uint8)
