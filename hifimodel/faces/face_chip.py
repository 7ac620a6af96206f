"""The aligned face that recognisers are trained on: the one way from a picture and five points to it.

The identity vectors of shards are made from such chips by hifidata, on the photo itself, sampled plainly; so everything
here samples plainly, too. Averaging areas first moves a vector by up to 0.023 in cosine (28 photos, MobileFaceNet).
``hifimodel.losses.align`` does the same in torch, for gradients.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hifimodel.geometry import similarity

F32 = NDArray[np.float32]
RgbU8 = NDArray[np.uint8]

CHIP_PX = 112
"""Side of an aligned face."""
TEMPLATE_PX = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""(5, 2) where a chip has eyes, nose tip and mouth corners, the picture's left first. Source: ArcFace, arXiv:1801.07698."""


def align_face(rgb_u8: RgbU8, kps_px: F32, side_px: int = CHIP_PX) -> RgbU8:
    """The face as ArcFace-trained recognisers know it.

    Args:
        rgb_u8: (H, W, 3) uint8.
        kps_px: (5, 2) eyes, nose tip, mouth corners.
        side_px: side of the result; the template scales with it.

    Returns:
        (side_px, side_px, 3) uint8, black where the picture ends.

    Raises:
        DegenerateError: the five points coincide.
    """
    matrix = similarity(kps_px, (TEMPLATE_PX + 0.5) * side_px / CHIP_PX - 0.5)
    return np.asarray(cv2.warpAffine(rgb_u8, matrix, (side_px, side_px), flags=cv2.INTER_LINEAR), np.uint8)
