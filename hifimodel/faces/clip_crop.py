"""CLIP's crop of a reference, from an image, its face box and its matte.

The loader uses it for training, and ``hifimodel.faces.photo`` for generation and evaluation, so that both give the same crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hifidata.core.errors import ModelError
from hifidata.models.protocols import F32, RgbU8

U8 = NDArray[np.uint8]

REDUCTIONS = (1, 2, 4, 8)
"""libjpeg decodes a JPEG at these fractions of its size faster than the whole, and without aliasing."""


@dataclass(frozen=True)
class ClipView:
    """Settings of CLIP's crop.

    Attributes:
        side_px: side of the crop.
        side_over_face: side of the square over the longer side of the face box.
        ground_u8: grey value of the background if there is a matte.
        min_face_alpha: a matte with a lower mean over the middle of the face is rejected, and the background stays.
    """

    side_px: int = 224
    side_over_face: float = 1.3
    ground_u8: int = 255
    min_face_alpha: float = 0.8


def clip_view(rgb_u8: RgbU8, face_xyxy_px: F32, how: ClipView, alpha_u8: U8 | None = None) -> tuple[RgbU8, bool]:
    """Cut out the square around a face, with an even background if there is a matte.

    The image is first reduced as far as the crop allows, which makes matting faster.

    Args:
        rgb_u8: (H, W, 3) uint8.
        face_xyxy_px: (4,) edges of the face box; the edges of the image are 0, 0, W, H.
        how: the settings.
        alpha_u8: (h, w) uint8 opacity of the person, of any size; None keeps the background.

    Returns:
        (side_px, side_px, 3) uint8, and whether the matte was used.

    Raises:
        ModelError: the box has no area.

    Source: paper section 3.2, pre-processing of the references (PP-Matting); the square and the background are ours.
    """
    square_px = _longer_side_px(face_xyxy_px) * how.side_over_face
    factor = reduction(square_px / how.side_px)
    height_px, width_px = rgb_u8.shape[:2]
    small_px = max(1, round(width_px / factor)), max(1, round(height_px / factor))
    small_u8 = (
        rgb_u8 if factor == 1 else np.asarray(cv2.resize(rgb_u8, small_px, interpolation=cv2.INTER_AREA), np.uint8)
    )
    box_px = face_xyxy_px * np.array([small_px[0] / width_px, small_px[1] / height_px] * 2, np.float32)
    is_matted = False
    if alpha_u8 is not None:
        alpha = cv2.resize(alpha_u8, small_px, interpolation=cv2.INTER_AREA) / np.float32(255)  # (h, w)
        is_matted = _middle_mean(alpha, box_px) >= how.min_face_alpha
        if is_matted:
            share = alpha[..., None]
            small_u8 = np.asarray(np.rint(small_u8 * share + how.ground_u8 * (1 - share)), np.uint8)
    return clip_crop(small_u8, box_px, how.side_over_face, how.side_px), is_matted


def clip_crop(rgb_u8: RgbU8, face_xyxy_px: F32, margin: float, side_px: int) -> RgbU8:
    """Cut out the square around a face box.

    Args:
        rgb_u8: (H, W, 3) uint8.
        face_xyxy_px: (4,) edges of the box; the edges of the image are 0, 0, W, H.
        margin: side of the square over the longer side of the box.
        side_px: side of the result.

    Returns:
        (side_px, side_px, 3) uint8; edge pixels repeat outside the image, which also extends an even background.

    Raises:
        ModelError: the box has no area.
    """
    scale = side_px / (_longer_side_px(face_xyxy_px) * margin)
    centre = (
        face_xyxy_px[:2].astype(np.float64) + face_xyxy_px[2:]
    ) / 2 - 0.5  # in coordinates of pixel centres, like points
    shift = (side_px - 1) / 2 - scale * centre
    return _warp(rgb_u8, np.column_stack([np.eye(2) * scale, shift]), side_px, cv2.BORDER_REPLICATE)


def reduction(spare: float) -> int:
    """Return the largest of 1, 2, 4, 8 that is at most ``spare``, the size of the image over the needed size."""
    return max(factor for factor in REDUCTIONS if factor <= max(spare, 1.0))


def resize_square(rgb_u8: RgbU8, side_px: int) -> RgbU8:
    """Resize to (side_px, side_px, 3): area average to reduce, bicubic to enlarge."""
    if rgb_u8.shape[:2] == (side_px, side_px):
        return rgb_u8
    way = cv2.INTER_AREA if rgb_u8.shape[0] > side_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb_u8, (side_px, side_px), interpolation=way), np.uint8)


def scaled_points(points_px: NDArray[Any], scale: float, corner_px: NDArray[Any] | float = 0.0) -> F32:
    """Move points into an image that was cut at ``corner_px`` and resized by ``scale``.

    The centre of a pixel has whole-number coordinates in both images. The resize aligns the outer edges of the pixels, half a
    pixel further out.
    """
    return ((points_px - corner_px + 0.5) * scale - 0.5).astype(np.float32)


def _longer_side_px(face_xyxy_px: F32) -> float:
    side_px = float((face_xyxy_px[2:] - face_xyxy_px[:2]).max())
    if not side_px >= 1:
        raise ModelError(f"face box {face_xyxy_px.tolist()}: no area")
    return side_px


def _middle_mean(alpha: F32, xyxy_px: F32) -> float:
    """Return the mean of a map over the middle half of a box; 0 if that is outside the map."""
    quarter = (xyxy_px[2:] - xyxy_px[:2]) / 4
    x1, y1 = np.maximum(np.floor(xyxy_px[:2] + quarter), 0).astype(int)
    x2, y2 = np.maximum(np.ceil(xyxy_px[2:] - quarter), 0).astype(int)
    middle = alpha[y1:y2, x1:x2]
    return float(middle.mean()) if middle.size else 0.0


def _warp(rgb_u8: RgbU8, matrix: NDArray[np.float64], side_px: int, border: int) -> RgbU8:
    """Warp to (side_px, side_px, 3): sampled bilinearly at a whole multiple of the size, then averaged."""
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    finer = min(max(1, int(1 / scale)), 16)
    fine = matrix * finer
    fine[:, 2] += (finer - 1) / 2
    size = (side_px * finer, side_px * finer)
    warped = cv2.warpAffine(rgb_u8, fine, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return resize_square(np.asarray(warped, np.uint8), side_px)
