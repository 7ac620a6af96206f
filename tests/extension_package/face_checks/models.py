"""A face quality model: Tenengrad, the mean squared gradient of the face."""

import cv2
import numpy as np

from hifidata.core.base_config import BaseConfig
from hifidata.core.errors import ModelError
from hifidata.core.schema import Column
from hifidata.weights.catalogue import Weight


class Tenengrad:
    """Scores sharpness by the Sobel gradient inside the face box."""

    name = "tenengrad"
    licence = "MIT"
    commercial = True
    defaults = {"min_score": 0.2}
    thresholds_from = "0.2: chosen for this example"
    columns = (
        Column("tenengrad_gradient", "float32", "mean squared Sobel gradient of the face", "squared grey levels"),
    )
    files = (
        Weight(
            name="tenengrad_scale",
            file="tenengrad_scale.npy",
            licence="CC0-1.0",
            commercial=True,
            sha256="17c3010d2b9366cc32a08b7e2d5bd83e04258f6fb085909c1d4e06f1c480622f",
        ),
    )

    class Config(BaseConfig):
        """Keys of ``quality.options``."""

        side_px: int = 128

    def __init__(self, scale_file, options):
        self.scale = float(np.load(scale_file, allow_pickle=False))
        self.options = options

    def score(self, rgb_u8, xyxy_px, kps_px, landmarks_px):
        """Return the manifest columns of one face.

        Args:
            rgb_u8: (H, W, 3) uint8 RGB image.
            xyxy_px: (4,) face box.
            kps_px: (5, 2) five points.
            landmarks_px: (68, 2) landmarks, or None.

        Raises:
            ModelError: the face is outside the image. The image fails, and the run continues.
        """
        x1, y1, x2, y2 = np.maximum(xyxy_px, 0).astype(int)
        if rgb_u8[y1:y2, x1:x2].size == 0:
            raise ModelError("the face is outside the image")
        face = cv2.resize(rgb_u8[y1:y2, x1:x2], (self.options.side_px,) * 2, interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
        gradient = float(np.mean(cv2.Sobel(grey, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(grey, cv2.CV_32F, 0, 1) ** 2))
        return {"quality_score": 1 - np.exp(-gradient / self.scale), "tenengrad_gradient": gradient}
