"""Shared steps of MODNet and PP-Matting: input size, input pixels and alpha at image size."""

from __future__ import annotations

import cv2
import numpy as np

from hifidata.core.errors import ModelError
from hifidata.models.protocols import F32, RgbU8

SHORT_SIDE_PX, MULTIPLE_PX = 512, 32


def work_size(width_px: int, height_px: int, enlarge: bool) -> tuple[int, int]:
    """Compute the input width and height: short side 512, both sides rounded down to multiples of 32.

    Args:
        width_px, height_px: size of the image.
        enlarge: whether to enlarge images with a short side below 512.
    """
    scale = SHORT_SIDE_PX / min(width_px, height_px)
    scale = scale if enlarge else min(scale, 1.0)
    width, height = (max(int(side * scale + 0.5) // MULTIPLE_PX, 1) * MULTIPLE_PX for side in (width_px, height_px))
    return width, height


def to_network(picture: RgbU8, size: tuple[int, int]) -> F32:
    """Convert an image (H, W, 3) uint8 to (1, 3, height, width) float32 RGB in -1..1."""
    shrinks = size[0] < picture.shape[1]
    sized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.ascontiguousarray((sized.astype(np.float32) / np.float32(127.5) - np.float32(1)).transpose(2, 0, 1)[None])


def to_alpha(output: F32, size: tuple[int, int], picture: RgbU8, model: str) -> F32:
    """Convert an output (1, 1, height, width) or (1, height, width) to an alpha (H, W) float32 in 0..1 at image size.

    Raises:
        ModelError: the output has another size or contains NaN.
    """
    squeezed = output.reshape(output.shape[-2:]) if output.size == size[0] * size[1] and output.ndim >= 2 else output
    if squeezed.shape != size[::-1] or not np.isfinite(squeezed).all():
        raise ModelError(f"{model}: expected a finite alpha of shape {size[::-1]}, got {output.shape}")
    alpha = cv2.resize(np.asarray(squeezed, np.float32), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(alpha, 0, 1), np.float32)
