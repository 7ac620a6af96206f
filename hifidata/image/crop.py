"""The square around a face, and the way of its pixels and points to the output size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import ArrayLike, NDArray

RgbU8 = NDArray[np.uint8]


@dataclass(frozen=True)
class CropWindow:
    """A square in picture pixels, x2 and y2 exclusive; outside the picture where it was padded.

    Attributes:
        shift_px: how far it was moved to stay inside the picture, the larger of both directions.
    """

    x1: int
    y1: int
    x2: int
    y2: int
    shift_px: int

    @property
    def side_px(self) -> int:
        """Width and height."""
        return self.x2 - self.x1


def square_window(face_xyxy_px: Sequence[float], picture_wh: tuple[int, int], side_px: int, pad: bool) -> CropWindow:
    """Places a square on the centre of a face.

    Args:
        face_xyxy_px: face box; may reach outside the picture.
        picture_wh: width and height of the picture.
        side_px: wanted side, at least 1.
        pad: where the side exceeds the picture, leave the picture (True) or shrink to its shorter side (False).

    Returns:
        The square, moved by as little as keeps it inside; along a side that is shorter than the square, the square covers
        all of it.
    """
    if side_px < 1 or not all(math.isfinite(edge) for edge in face_xyxy_px):
        raise ValueError(f"square_window: got side {side_px} px for face box {face_xyxy_px}, expected >= 1 and finite")
    if not pad:
        side_px = min(side_px, *picture_wh)
    x1, y1, x2, y2 = face_xyxy_px
    left, shift_x_px = _placed((x1 + x2) / 2, side_px, picture_wh[0])
    top, shift_y_px = _placed((y1 + y2) / 2, side_px, picture_wh[1])
    return CropWindow(left, top, left + side_px, top + side_px, max(shift_x_px, shift_y_px))


def _placed(centre_px: float, side_px: int, extent_px: int) -> tuple[int, int]:
    """(start, shift) of an interval around a centre, kept inside [0, extent] or, where it is longer, around it."""
    wanted_px = math.floor(centre_px - side_px / 2 + 0.5)
    room_px = extent_px - side_px
    start_px = min(max(wanted_px, min(0, room_px)), max(0, room_px))
    return start_px, abs(start_px - wanted_px)


def cut(rgb_u8: RgbU8, window: CropWindow, output_px: int) -> RgbU8:
    """Cuts a square and resizes it: area average when shrinking, bicubic when enlarging.

    Args:
        rgb_u8: (H, W, 3) uint8; not modified.
        window: what lies outside the picture repeats its nearest edge pixel.
        output_px: side of the result.

    Returns:
        (output_px, output_px, 3) uint8, its own memory.
    """
    height_px, width_px = rgb_u8.shape[:2]
    left, top = max(window.x1, 0), max(window.y1, 0)
    right, bottom = min(window.x2, width_px), min(window.y2, height_px)
    if left >= right or top >= bottom:
        raise ValueError(f"cut: {window} does not touch the picture of {width_px} x {height_px} pixels")
    inside: MatLike = rgb_u8[top:bottom, left:right]
    margins_px = top - window.y1, window.y2 - bottom, left - window.x1, window.x2 - right
    if any(margins_px):
        inside = cv2.copyMakeBorder(inside, *margins_px, cv2.BORDER_REPLICATE)
    if window.side_px == output_px:
        return np.array(inside, np.uint8)
    way = cv2.INTER_AREA if window.side_px > output_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(inside, (output_px, output_px), interpolation=way), np.uint8)


def reduced(rgb_u8: RgbU8, longest_side_px: int) -> RgbU8:
    """Area-averages a picture down to a longest side; a smaller one is returned as it is.

    Whole-number steps are many times quicker, so most of the way is gone in one of them.

    Args:
        rgb_u8: (H, W, 3) uint8; not modified.
        longest_side_px: of the result.

    Returns:
        (h, w, 3) uint8 of the same shape but for rounding, max(h, w) at most longest_side_px.
    """
    height_px, width_px = rgb_u8.shape[:2]
    ratio = max(height_px, width_px) / longest_side_px
    if ratio <= 1:
        return rgb_u8
    size_wh = max(1, round(width_px / ratio)), max(1, round(height_px / ratio))
    step = int(ratio) if ratio == int(ratio) else int(ratio / 2)
    if step > 1 and min(height_px, width_px) >= step:
        whole = rgb_u8[: height_px // step * step, : width_px // step * step]
        step_wh = whole.shape[1] // step, whole.shape[0] // step
        rgb_u8 = np.asarray(cv2.resize(whole, step_wh, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(rgb_u8, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def map_points(points_xy: ArrayLike, window: CropWindow, output_px: int) -> NDArray[np.float32]:
    """Moves points from the picture into the resized cut.

    A pixel's centre has whole-number coordinates, on both sides; ``cv2.resize`` aligns the outer edges of the pixels, which
    lie half a pixel further out.

    Args:
        points_xy: (..., 2) in picture pixels.
        window: as given to ``cut``.
        output_px: as given to ``cut``.

    Returns:
        (..., 2) float32 in pixels of the cut; outside [0, output_px) for points outside the window.
    """
    corner_xy = np.array([window.x1, window.y1], np.float64)
    scale = output_px / window.side_px
    return ((np.asarray(points_xy, np.float64) - corner_xy + 0.5) * scale - 0.5).astype(np.float32)
