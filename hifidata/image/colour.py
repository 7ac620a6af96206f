"""Convert any of Pillow's colour modes to sRGB with 8 bits per channel.

Rules, in this order:

1. 16-bit grey is scaled to 8 bits.
2. An embedded profile is applied (relative colorimetric, black point compensation). A profile that is damaged, equals
   sRGB or does not fit the pixels is ignored. Without a profile, CMYK is converted as R = (1 - C) * (1 - K).
3. Transparent pixels are blended with white, unless every pixel is fully transparent.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from hifidata.image.arrays import RgbU8

_MODE_OF_PROFILE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_GREY_MODES = {"1", "L", "LA"}
_SRGB_TOLERANCE = 2  # of 255; sRGB profiles in circulation differ from one another by 1, other RGB spaces by 50 or more


def srgb_u8(image: Image.Image, icc: bytes | None) -> RgbU8:
    """Convert a decoded image.

    Args:
        image: in any mode that the decoders return.
        icc: embedded colour profile.

    Returns:
        (H, W, 3) uint8, C-contiguous, its own memory.
    """
    if image.mode.startswith("I"):
        image = _grey_of_16_bit(image)
    source_mode, alpha = image.mode, None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    profile = _profile(icc) if icc else None
    if profile is not None and _fits(profile.input_mode, source_mode):
        rgb = profile.apply(image.convert(profile.input_mode))
    else:
        rgb = image.convert("RGB")
    if alpha is not None and alpha.getextrema() != (0, 0):  # some BMP writers set the fourth byte to zero
        canvas = Image.new("RGB", rgb.size, "white")
        canvas.paste(rgb, mask=alpha)
        rgb = canvas
    return np.array(rgb)


def is_srgb(icc: bytes | None) -> bool:
    """Tell whether pixels with this profile need no conversion to sRGB. A damaged profile counts as none."""
    return icc is None or _profile(icc) is None


@lru_cache(maxsize=16)
def _profile(icc: bytes) -> ImageCms.ImageCmsTransform | None:
    """Build the transform from a profile to sRGB; None where no conversion is needed or the profile is unusable."""
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
    """Test on a grid of colours, because a profile's name is no proof of sRGB."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    converted = np.asarray(transform.apply(Image.fromarray(grid)))
    return int(np.abs(converted.astype(np.int16) - grid).max()) <= _SRGB_TOLERANCE


def _fits(profile_mode: str, source_mode: str) -> bool:
    if profile_mode == "L":
        return source_mode in _GREY_MODES
    return (profile_mode == "CMYK") == (source_mode == "CMYK")


def _grey_of_16_bit(image: Image.Image) -> Image.Image:
    """Scale to 8 bits; Pillow's own conversion would clip at 255."""
    grey = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
