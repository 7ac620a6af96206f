"""Alignment of a face for FFHQ-trained restorers, and the way back into the image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hifidata.image.align import similarity

F32 = NDArray[np.float32]
RgbU8 = NDArray[np.uint8]

SIDE_PX = 512

TEMPLATE_PX = np.array(
    [[192.98138, 239.94708], [318.90277, 240.1936], [256.63416, 314.01935], [201.26117, 371.41043], [313.08905, 371.15118]],
    np.float32,
)  # fmt: skip
"""(5, 2) eyes, nose tip and mouth corners. Source: facexlib's mean of FFHQ faces at 512 px."""

BEYOND_RGB = (132, 133, 135)
"""Padding colour of the restorers' training data."""

RIM_PX, RAMP_PX = 24.0, 52.0
"""Of the square: the rim is not pasted; over the ramp inside it, the pasted face fades in."""


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
    """Cut a face out of an image (H, W, 3) by its five points (5, 2). Raises ModelError if the points coincide.

    Source: GFPGAN, CVPR 2021, which estimates the same transform by least median of squares; with five points of one
    face, least squares differs by a fraction of a pixel.
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
    """Blend an aligned face into the image it was cut from.

    Args:
        image: (H, W, 3) uint8; not modified.
        face: (512, 512, 3) float32, 0 to 255.
        matrix: (2, 3) of ``align_ffhq``.

    Returns:
        (H, W, 3) uint8, equal to the image where ``paste_mask`` is 0.
    """
    alpha = paste_mask(image.shape[:2], matrix)[..., None]  # (H, W, 1)
    moved = _moved_back(face, image.shape[:2], matrix, cv2.INTER_CUBIC)  # (H, W, 3)
    return np.clip(np.rint(image + alpha * (moved - image)), 0, 255).astype(np.uint8)


def paste_mask(shape: tuple[int, ...], matrix: F32) -> F32:
    """Return the (H, W) float32 opacity of the pasted face: 0 outside the square and in its rim, 1 in the middle."""
    to_edge_px = np.minimum(np.arange(SIDE_PX), np.arange(SIDE_PX)[::-1])
    rise = np.clip((to_edge_px - RIM_PX) / RAMP_PX, 0, 1)
    smooth = (rise * rise * (3 - 2 * rise)).astype(np.float32)
    return _moved_back(np.outer(smooth, smooth), shape, matrix, cv2.INTER_LINEAR)


def _moved_back(square: F32, shape: tuple[int, ...], matrix: F32, interpolation: int) -> F32:
    """Warp the square by the inverse of ``matrix`` into an image of height and width ``shape``; 0 around it."""
    inverse = cv2.invertAffineTransform(matrix)
    moved = cv2.warpAffine(np.ascontiguousarray(square), inverse, (shape[1], shape[0]), flags=interpolation)
    return np.asarray(moved, np.float32)
