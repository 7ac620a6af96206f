"""Pixels to JPEG: the picture and nothing else, no EXIF, no GPS, no profile, no comment."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hifidata.image.crop import reduced

RgbU8 = NDArray[np.uint8]

_FULL_CHROMA_QUALITY = 90
_THUMBNAIL_QUALITY = 80


def encode_jpeg(rgb_u8: RgbU8, quality: int) -> bytes:
    """Encodes a picture; the same pixels give the same bytes.

    Args:
        rgb_u8: (H, W, 3) uint8.
        quality: 1 to 100; from 90 on colour is kept at full resolution (4:4:4), below at half (4:2:0).
    """
    full = quality >= _FULL_CHROMA_QUALITY
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if full else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb_u8, cv2.COLOR_RGB2BGR), options)
    return jpeg.tobytes()


def thumbnail_jpeg(rgb_u8: RgbU8, longest_side_px: int) -> bytes:
    """Encodes a picture reduced to a longest side; smaller pictures are not enlarged."""
    return encode_jpeg(reduced(rgb_u8, longest_side_px), _THUMBNAIL_QUALITY)
