"""Align a face to the template that embedders and quality models are trained on.

Both packages use this fit and this template. ``hifimodel.losses.align`` samples the same aligned face in torch, for gradients.
"""

from __future__ import annotations

import cv2
import numpy as np

from hifidata.core.errors import ModelError
from hifidata.image.arrays import F32, RgbU8

CHIP_PX = 112

TEMPLATE_PX = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""(5, 2) eyes, nose tip and mouth corners in an aligned face of 112 px. Source: ArcFace, arXiv:1801.07698."""


def similarity(points: F32, target: F32) -> F32:
    """Estimate the similarity transform (rotation, scale, shift; no mirroring) between points by least squares.

    Args:
        points: (n, 2) float32, n >= 2.
        target: (n, 2) float32.

    Returns:
        (2, 3) float32 matrix for ``cv2.warpAffine``.

    Raises:
        ModelError: the points coincide or are not finite.

    Source: Umeyama, IEEE TPAMI 13(4), 1991, equations 40 to 43.
    """
    points_mean, target_mean = points.mean(axis=0, dtype=np.float64), target.mean(axis=0, dtype=np.float64)
    centred, wanted = points - points_mean, target - target_mean  # (n, 2)
    variance = float(np.square(centred).sum())
    if not np.isfinite(variance) or variance < 1e-6:
        raise ModelError("alignment: the keypoints of the face coincide or are not finite")
    left, stretch, right = np.linalg.svd(wanted.T @ centred)  # (2, 2), (2,), (2, 2)
    signs = np.array([1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
    turn = (left * signs) @ right
    scale = float(stretch @ signs) / variance
    shift = target_mean - scale * turn @ points_mean
    return np.column_stack([scale * turn, shift]).astype(np.float32)


def norm_crop(rgb_u8: RgbU8, kps_px: F32, side_px: int = CHIP_PX) -> RgbU8:
    """Align a face for networks that are trained on ArcFace's template.

    Sampling is bilinear, as in training. Area averaging before a reduction by two to nine changed no verification
    figure beyond chance on 262 photos.

    Args:
        rgb_u8: (H, W, 3) uint8; not modified.
        kps_px: (5, 2) eyes, nose tip and mouth corners.
        side_px: side of the result; the template is scaled to it.

    Returns:
        (side_px, side_px, 3) uint8; black outside the image.

    Raises:
        ModelError: the points coincide or are not finite.
    """
    matrix = similarity(kps_px, TEMPLATE_PX * np.float32(side_px / CHIP_PX)).astype(np.float64)
    return np.asarray(cv2.warpAffine(rgb_u8, matrix, (side_px, side_px), flags=cv2.INTER_LINEAR), np.uint8)
