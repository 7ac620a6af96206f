"""Crop a square around a face, and map pixels and points to the output size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import ArrayLike

from hifidata.image.arrays import F32, RgbU8


@dataclass(frozen=True)
class CropWindow:
    """A square in image pixels, x2 and y2 exclusive. It reaches outside the image where the image needs padding.

    Attributes:
        shift_px: distance by which it was moved to stay inside the image; the larger of both axes.
    """

    x1: int
    y1: int
    x2: int
    y2: int
    shift_px: int

    @property
    def side_px(self) -> int:
        """Width and height of the square."""
        return self.x2 - self.x1


def square_window(face_xyxy_px: Sequence[float], image_wh: tuple[int, int], side_px: int, pad: bool) -> CropWindow:
    """Place a square on the centre of a face.

    Args:
        face_xyxy_px: face box; may reach outside the image.
        image_wh: width and height of the image.
        side_px: requested side, at least 1.
        pad: where the side exceeds the image, reach outside (True) or shrink to the shorter side of the image (False).

    Returns:
        The square, moved as little as possible to stay inside. Where the image is shorter than the square, the square
        covers the whole side of the image.
    """
    if side_px < 1 or not all(math.isfinite(edge) for edge in face_xyxy_px):
        raise ValueError(f"square_window: got side {side_px} px for face box {face_xyxy_px}, expected >= 1 and finite")
    if not pad:
        side_px = min(side_px, *image_wh)
    x1, y1, x2, y2 = face_xyxy_px
    left, shift_x_px = _placed((x1 + x2) / 2, side_px, image_wh[0])
    top, shift_y_px = _placed((y1 + y2) / 2, side_px, image_wh[1])
    return CropWindow(left, top, left + side_px, top + side_px, max(shift_x_px, shift_y_px))


def _placed(centre_px: float, side_px: int, extent_px: int) -> tuple[int, int]:
    """Return (start, shift) of an interval that stays inside [0, extent] or, if it is longer, covers it."""
    wanted_px = math.floor(centre_px - side_px / 2 + 0.5)
    room_px = extent_px - side_px
    start_px = min(max(wanted_px, min(0, room_px)), max(0, room_px))
    return start_px, abs(start_px - wanted_px)


def cut(rgb_u8: RgbU8, window: CropWindow, output_px: int) -> RgbU8:
    """Cut a square and resize it: area average to shrink, bicubic to enlarge.

    Args:
        rgb_u8: (H, W, 3) uint8; not modified.
        window: pixels outside the image repeat the nearest edge pixel.
        output_px: side of the result.

    Returns:
        (output_px, output_px, 3) uint8, its own memory.
    """
    height_px, width_px = rgb_u8.shape[:2]
    left, top = max(window.x1, 0), max(window.y1, 0)
    right, bottom = min(window.x2, width_px), min(window.y2, height_px)
    if left >= right or top >= bottom:
        raise ValueError(f"cut: {window} does not touch the image of {width_px} x {height_px} pixels")
    inside: MatLike = rgb_u8[top:bottom, left:right]
    margins_px = top - window.y1, window.y2 - bottom, left - window.x1, window.x2 - right
    if any(margins_px):
        inside = cv2.copyMakeBorder(inside, *margins_px, cv2.BORDER_REPLICATE)
    if window.side_px == output_px:
        return np.array(inside, np.uint8)
    interpolation = cv2.INTER_AREA if window.side_px > output_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(inside, (output_px, output_px), interpolation=interpolation), np.uint8)


def reduced(rgb_u8: RgbU8, longest_side_px: int) -> RgbU8:
    """Reduce an image to a longest side by area averaging; return a smaller image unchanged.

    Integer factors are many times faster, so an integer factor does most of the reduction.

    Args:
        rgb_u8: (H, W, 3) uint8; not modified.
        longest_side_px: longest side of the result.

    Returns:
        (h, w, 3) uint8 with the same aspect ratio up to rounding and max(h, w) <= longest_side_px.
    """
    height_px, width_px = rgb_u8.shape[:2]
    ratio = max(height_px, width_px) / longest_side_px
    if ratio <= 1:
        return rgb_u8
    size_wh = max(1, round(width_px / ratio)), max(1, round(height_px / ratio))
    factor = int(ratio) if ratio == int(ratio) else int(ratio / 2)
    if factor > 1 and min(height_px, width_px) >= factor:
        divisible = rgb_u8[: height_px // factor * factor, : width_px // factor * factor]
        quotient_wh = divisible.shape[1] // factor, divisible.shape[0] // factor
        rgb_u8 = np.asarray(cv2.resize(divisible, quotient_wh, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(rgb_u8, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def map_points(points_xy: ArrayLike, window: CropWindow, output_px: int) -> F32:
    """Map points from the image to the resized crop.

    Integer coordinates are pixel centres in both. ``cv2.resize`` aligns the outer edges of the pixels, which are half a
    pixel further out.

    Args:
        points_xy: (..., 2) in image pixels.
        window: as given to ``cut``.
        output_px: as given to ``cut``.

    Returns:
        (..., 2) float32 in pixels of the crop; outside [0, output_px) for points outside the window.
    """
    corner_xy = np.array([window.x1, window.y1], np.float64)
    scale = output_px / window.side_px
    return ((np.asarray(points_xy, np.float64) - corner_xy + 0.5) * scale - 0.5).astype(np.float32)
