"""Perceptual hash: 64 bits that hardly change when an image is rescaled or recompressed.

Source: the DCT hash of pHash (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", 3.2.1)
with the choices of ``imagehash.phash``: Lanczos to 32 x 32 grey, unnormalised DCT-II, the 8 x 8 lowest frequencies
including the mean. Each bit is 1 where a coefficient exceeds their median. The bits equal those of that package.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from hifidata.image.arrays import RgbU8

_GREY_PX = 32
_FREQUENCIES = 8
_COSINES = np.cos(np.pi / (2 * _GREY_PX) * np.outer(np.arange(_FREQUENCIES), 2 * np.arange(_GREY_PX) + 1))  # (8, 32)


def phash64(rgb_u8: RgbU8) -> int:
    """Hash an image.

    Args:
        rgb_u8: (H, W, 3) uint8.

    Returns:
        64 bits, the lowest frequencies in the highest bits.
    """
    grey = Image.fromarray(cv2.cvtColor(rgb_u8, cv2.COLOR_RGB2GRAY))
    small = np.asarray(grey.resize((_GREY_PX, _GREY_PX), Image.Resampling.LANCZOS), np.float64)  # (32, 32)
    low = np.round(_COSINES @ small @ _COSINES.T, 6)  # (8, 8); rounded against noise in flat images
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def hex16(hash64: int) -> str:
    """Format a hash for the manifest: 16 hex digits."""
    return f"{hash64:016x}"


def distance_bits(a: str, b: str) -> int:
    """Count the bits in which two ``hex16`` hashes differ."""
    return (int(a, 16) ^ int(b, 16)).bit_count()
