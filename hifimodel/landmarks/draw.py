"""68 landmarks as an image: the condition of HiFi-Net.

The style has a version. A checkpoint records the version of its training and refuses others, so any change of a pixel needs a
new version.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from hifidata.models.protocols import F32, RgbU8
from hifimodel.landmarks.base import checked_landmarks

STYLE_VERSION = "lines68-1"
"""Black background, one colour per part, different colours left and right, line width in proportion to the face."""


class Part(NamedTuple):
    """A line of the face: its points, whether it is closed, and its colour."""

    name: str
    points: slice
    is_closed: bool
    rgb: tuple[int, int, int]


PARTS = (
    Part("jaw", slice(0, 17), False, (235, 235, 235)),
    Part("left brow", slice(17, 22), False, (255, 145, 0)),
    Part("right brow", slice(22, 27), False, (255, 230, 0)),
    Part("nose bridge", slice(27, 31), False, (0, 200, 80)),
    Part("nose base", slice(31, 36), False, (0, 225, 255)),
    Part("left eye", slice(36, 42), True, (50, 110, 255)),
    Part("right eye", slice(42, 48), True, (175, 50, 255)),
    Part("outer lips", slice(48, 60), True, (255, 30, 60)),
    Part("inner lips", slice(60, 68), True, (255, 140, 185)),
)

WIDTH_OVER_SPREAD = 0.045
"""Line width over the root mean square distance of the points from their centre: 6 px for a face 430 px wide."""
MIN_WIDTH_PX = 1.5
HALVINGS = 2
SUPERSAMPLING = 2**HALVINGS
_FRACTION_BITS = 4


def draw(points_px: F32, size_px: int | tuple[int, int]) -> RgbU8:
    """Draw landmarks, anti-aliased; the same points give the same bytes.

    Args:
        points_px: (68, 2) float32; the centre of a pixel has whole-number coordinates. Lines are clipped at the image.
        size_px: side of the image, or (height, width).

    Returns:
        (H, W, 3) uint8.

    Raises:
        LandmarkError: not (68, 2) finite numbers.

    Source: paper 3.3 (I_lmk); the paper does not state the style.
    """
    points = checked_landmarks(points_px, "draw").astype(np.float64)
    height_px, width_px = (size_px, size_px) if isinstance(size_px, int) else size_px
    image = np.zeros((height_px, width_px, 3), np.uint8)
    line_px = line_width_px(points)
    low = np.clip(np.floor(points.min(axis=0) - line_px), 0, (width_px, height_px)).astype(int)
    high = np.clip(np.ceil(points.max(axis=0) + line_px) + 1, 0, (width_px, height_px)).astype(int)
    if (low >= high).any():
        return image
    # Only the rectangle of the face is drawn enlarged: four times a whole 1024 px image is 50 MB per sample.
    large = np.zeros((*(high - low)[::-1] * SUPERSAMPLING, 3), np.uint8)
    _draw_parts(large, (points - low + 0.5) * SUPERSAMPLING - 0.5, round(line_px * SUPERSAMPLING))
    for _ in range(HALVINGS):  # takes a third of the time of one step by four
        large = np.asarray(cv2.resize(large, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
    image[low[1] : high[1], low[0] : high[0]] = large
    return image


def line_width_px(points_px: NDArray[np.floating]) -> float:
    """Return the line width for a face."""
    spread_px = float(np.sqrt(((points_px - points_px.mean(axis=0)) ** 2).sum(axis=1).mean()))
    return max(MIN_WIDTH_PX, WIDTH_OVER_SPREAD * spread_px)


def _draw_parts(large: RgbU8, points: NDArray[np.float64], width: int) -> None:
    limit = 8 * max(large.shape)  # keeps OpenCV's fixed-point coordinates in range; far outside the image
    fixed = np.rint(np.clip(points, -limit, limit) * 2**_FRACTION_BITS).astype(np.int32)
    for part in PARTS:
        cv2.polylines(large, [fixed[part.points]], part.is_closed, part.rgb, width, cv2.LINE_8, _FRACTION_BITS)
