"""Align a face to the template of FFHQ-trained restorers, and paste the restored face back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hifidata.image.align import similarity
from hifidata.image.arrays import F32, RgbU8

SIDE_PX = 512

TEMPLATE_PX = np.array(
    [[192.98138, 239.94708], [318.90277, 240.1936], [256.63416, 314.01935], [201.26117, 371.41043], [313.08905, 371.15118]],
    np.float32,
)  # fmt: skip
"""(5, 2) eyes, nose tip and mouth corners. Source: facexlib's mean of FFHQ faces at 512 px."""

BEYOND_RGB = (132, 133, 135)
"""Colour outside the image, as in the restorers' training."""

RIM_PX, RAMP_PX = 24.0, 52.0
"""Widths along each side of the square: no pixel of the rim is pasted; the face fades in across the ramp."""


@dataclass(frozen=True)
class AlignedFace:
    """A face aligned to the template.

    Attributes:
        rgb_u8: (512, 512, 3) uint8.
        matrix: (2, 3) float32, from image pixels to pixels of the square.
    """

    rgb_u8: RgbU8
    matrix: F32


def align_ffhq(image: RgbU8, kps_px: F32) -> AlignedFace:
    """Align a face.

    Args:
        image: (H, W, 3) uint8; not modified.
        kps_px: (5, 2) eyes, nose tip and mouth corners.

    Raises:
        ModelError: the points coincide or are not finite.

    Source: GFPGAN, CVPR 2021. It estimates the same transform by least median of squares; for five points of one face,
    least squares differs by a fraction of a pixel.
    """
    matrix = similarity(kps_px, TEMPLATE_PX)
    square = cv2.warpAffine(
        image,
        matrix,
        (SIDE_PX, SIDE_PX),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=BEYOND_RGB,
    )
    return AlignedFace(np.asarray(square, np.uint8), matrix)


def paste_back(image: RgbU8, face: F32, matrix: F32) -> RgbU8:
    """Blend an aligned face into the image.

    Args:
        image: (H, W, 3) uint8; not modified.
        face: (512, 512, 3) float32, 0 to 255.
        matrix: (2, 3), from ``align_ffhq``.

    Returns:
        (H, W, 3) uint8, equal to the image where ``paste_mask`` is 0.
    """
    alpha = paste_mask(image.shape[:2], matrix)[..., None]  # (H, W, 1)
    moved = _moved_back(face, image.shape[:2], matrix, cv2.INTER_CUBIC)  # (H, W, 3)
    return np.clip(np.rint(image + alpha * (moved - image)), 0, 255).astype(np.uint8)


def paste_mask(shape: tuple[int, ...], matrix: F32) -> F32:
    """Return the opacity of the pasted face, (H, W) float32: 0 outside the square and in its rim, 1 in its middle."""
    to_edge_px = np.minimum(np.arange(SIDE_PX), np.arange(SIDE_PX)[::-1])
    rise = np.clip((to_edge_px - RIM_PX) / RAMP_PX, 0, 1)
    smooth = (rise * rise * (3 - 2 * rise)).astype(np.float32)
    return _moved_back(np.outer(smooth, smooth), shape, matrix, cv2.INTER_LINEAR)


def _moved_back(square: F32, shape: tuple[int, ...], matrix: F32, interpolation: int) -> F32:
    """Warp the square by the inverse of ``matrix`` to an image of height and width ``shape``, 0 outside the square."""
    inverse = cv2.invertAffineTransform(matrix)
    moved = cv2.warpAffine(np.ascontiguousarray(square), inverse, (shape[1], shape[0]), flags=interpolation)
    return np.asarray(moved, np.float32)
