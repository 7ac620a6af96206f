"""Encode pixels as JPEG without metadata: no EXIF, no GPS, no colour profile, no comment."""

from __future__ import annotations

import cv2

from hifidata.image.arrays import RgbU8
from hifidata.image.crop import reduced

_FULL_CHROMA_QUALITY = 90
_THUMBNAIL_QUALITY = 80


def encode_jpeg(rgb_u8: RgbU8, quality: int) -> bytes:
    """Encode an image; the same pixels give the same bytes.

    Args:
        rgb_u8: (H, W, 3) uint8.
        quality: 1 to 100. From 90, chroma has full resolution (4:4:4); below 90, half (4:2:0).
    """
    has_full_chroma = quality >= _FULL_CHROMA_QUALITY
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if has_full_chroma else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb_u8, cv2.COLOR_RGB2BGR), options)
    return jpeg.tobytes()


def thumbnail_jpeg(rgb_u8: RgbU8, longest_side_px: int) -> bytes:
    """Encode an image reduced to a longest side; a smaller image is not enlarged."""
    return encode_jpeg(reduced(rgb_u8, longest_side_px), _THUMBNAIL_QUALITY)
