"""Any of Pillow's colour modes to sRGB, 8 bits per channel.

Rules, in this order: 16-bit grey is scaled to 8 bits; an embedded profile is applied (relative colorimetric with black point
compensation) unless it is sRGB already, does not fit the pixels, or is damaged; transparency is laid over white, except
where it would hide the whole picture. Without a profile CMYK is converted as R = (1 - C) * (1 - K).
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

RgbU8 = NDArray[np.uint8]

_MODE_OF_PROFILE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_GREY_MODES = {"1", "L", "LA"}
_SRGB_TOLERANCE = 2  # of 255; sRGB profiles in circulation differ from one another by 1, other RGB spaces by 50 or more


def srgb_u8(picture: Image.Image, icc: bytes | None) -> RgbU8:
    """Converts a decoded picture.

    Args:
        picture: in any mode that the decoders give.
        icc: its embedded profile.

    Returns:
        (H, W, 3) uint8, C-contiguous, its own memory.
    """
    if picture.mode.startswith("I"):
        picture = _grey_of_16_bit(picture)
    source_mode, alpha = picture.mode, None
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
    profile = _profile(icc) if icc else None
    if profile is not None and _fits(profile.input_mode, source_mode):
        rgb = profile.apply(picture.convert(profile.input_mode))
    else:
        rgb = picture.convert("RGB")
    if alpha is not None and alpha.getextrema() != (0, 0):  # some BMP writers leave the fourth byte at zero
        canvas = Image.new("RGB", rgb.size, "white")
        canvas.paste(rgb, mask=alpha)
        rgb = canvas
    return np.array(rgb)


def is_srgb(icc: bytes | None) -> bool:
    """Whether pixels with this profile are sRGB as they stand; a damaged profile says nothing and counts as none."""
    return icc is None or _profile(icc) is None


@lru_cache(maxsize=16)
def _profile(icc: bytes) -> ImageCms.ImageCmsTransform | None:
    """The way from a profile to sRGB; None where there is nothing to do or the profile is unusable."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        mode = _MODE_OF_PROFILE.get(profile.profile.xcolor_space.strip())
        if mode is None:
            return None
        transform = ImageCms.buildTransform(
            profile,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return None if mode == "RGB" and _changes_nothing(transform) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Profiles call themselves sRGB under many names and some lie; what a grid of colours becomes does not."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    converted = np.asarray(transform.apply(Image.fromarray(grid)))
    return int(np.abs(converted.astype(np.int16) - grid).max()) <= _SRGB_TOLERANCE


def _fits(profile_mode: str, source_mode: str) -> bool:
    if profile_mode == "L":
        return source_mode in _GREY_MODES
    return (profile_mode == "CMYK") == (source_mode == "CMYK")


def _grey_of_16_bit(picture: Image.Image) -> Image.Image:
    """Pillow's own conversion clips at 255 instead of scaling."""
    grey = np.asarray(picture).astype(np.uint32)
    return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
