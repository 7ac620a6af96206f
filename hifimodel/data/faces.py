"""Pixels: decoding at the size that is needed, and the crop for CLIP."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hifimodel.data.sample import CorruptSample

F32 = NDArray[np.float32]
RgbU8 = NDArray[np.uint8]

REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""libjpeg decodes a JPEG at these fractions of its size for less than the whole, and without aliasing."""


def reduction(spare: float) -> int:
    """The largest of 1, 2, 4, 8 that is at most ``spare`` (how many times larger the picture is than needed)."""
    return max(factor for factor in REDUCED if factor <= max(spare, 1.0))


def decode_jpeg(data: bytes, factor: int = 1) -> RgbU8:
    """(H / factor, W / factor, 3) uint8 sRGB. Raises CorruptSample where the bytes make no picture."""
    flags = REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise CorruptSample("jpg undecodable") from error
    if bgr is None:
        raise CorruptSample("jpg undecodable")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def resize_square(rgb_u8: RgbU8, side_px: int) -> RgbU8:
    """(side_px, side_px, 3): area average when shrinking, bicubic when enlarging."""
    if rgb_u8.shape[:2] == (side_px, side_px):
        return rgb_u8
    way = cv2.INTER_AREA if rgb_u8.shape[0] > side_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb_u8, (side_px, side_px), interpolation=way), np.uint8)


def matted(rgb_u8: RgbU8, alpha_png: bytes, background_u8: int) -> RgbU8:
    """The person before an even grey background; the matte is brought to the picture's size.

    Source: paper section 3.2, pre-processing of the references (PP-Matting); which background is ours.
    """
    alpha = cv2.imdecode(np.frombuffer(alpha_png, np.uint8), cv2.IMREAD_UNCHANGED) if alpha_png else None
    if alpha is None or alpha.dtype != np.uint8:
        raise CorruptSample("alpha.png undecodable")
    alpha = alpha if alpha.ndim == 2 else alpha[..., -1]
    height_px, width_px = rgb_u8.shape[:2]
    weight = cv2.resize(alpha, (width_px, height_px), interpolation=cv2.INTER_AREA)[..., None] / np.float32(255)
    return np.asarray(np.rint(rgb_u8 * weight + background_u8 * (1 - weight)), np.uint8)


def clip_crop(rgb_u8: RgbU8, face_xyxy_px: F32, margin: float, side_px: int) -> RgbU8:
    """The square around a face box, for the CLIP image encoder.

    Args:
        rgb_u8: (H, W, 3) uint8.
        face_xyxy_px: (4,) edges of the box; a picture's own are 0, 0, W, H.
        margin: side of the square over the longer side of the box.
        side_px: side of the result.

    Returns:
        (side_px, side_px, 3) uint8; the edge pixels repeat where the picture ends.
    """
    square_px = face_square_px(face_xyxy_px) * margin
    scale = side_px / square_px
    centre = (face_xyxy_px[:2].astype(np.float64) + face_xyxy_px[2:]) / 2 - 0.5  # in pixel centres, as points are
    shift = (side_px - 1) / 2 - scale * centre
    return _warp(rgb_u8, np.column_stack([np.eye(2) * scale, shift]), side_px, cv2.BORDER_REPLICATE)


def face_square_px(face_xyxy_px: F32) -> float:
    """The longer side of a face box. Raises CorruptSample for a box without area."""
    side_px = float((face_xyxy_px[2:] - face_xyxy_px[:2]).max())
    if not side_px >= 1:
        raise CorruptSample("face box empty")
    return side_px


def scaled_points(points_px: F32, scale: float) -> F32:
    """Points of a picture in the same picture resized by ``scale``; pixel centres are whole numbers in both."""
    return ((points_px + 0.5) * scale - 0.5).astype(np.float32)


def _warp(rgb_u8: RgbU8, matrix: NDArray[np.float64], side_px: int, border: int) -> RgbU8:
    """(side_px, side_px, 3): sampled bilinearly at a whole multiple of the size, then averaged, so nothing is skipped."""
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    finer = min(max(1, int(1 / scale)), 16)
    fine = matrix * finer
    fine[:, 2] += (finer - 1) / 2
    size = (side_px * finer, side_px * finer)
    warped = cv2.warpAffine(rgb_u8, fine, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return resize_square(np.asarray(warped, np.uint8), side_px)
