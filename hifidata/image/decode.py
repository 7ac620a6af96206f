"""Decode the bytes of an image file into upright sRGB pixels, or raise the reason for a refusal.

The content selects one decoder from an allow-list; the file's name plays no part. Limits are checked on the header,
before any pixel takes memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import simplejpeg
from cv2.typing import MatLike
from PIL import ImageFile

from hifidata.core.errors import IntakeError
from hifidata.image.arrays import RgbU8
from hifidata.image.colour import is_srgb, srgb_u8
from hifidata.image.headers.base import PILLOW_ERRORS, Header, open_image, pillow_error
from hifidata.image.headers.jpeg import read_jpeg
from hifidata.image.headers.others import read_other
from hifidata.image.headers.sniff import DECODABLE, NO_PICTURE, sniff
from hifidata.image.reasons import (
    ANIMATED,
    BAD_ASPECT,
    CORRUPT,
    EMPTY_FILE,
    FORMAT_NOT_ALLOWED,
    NOT_IMAGE,
    TOO_MANY_BYTES,
    TOO_MANY_PIXELS,
    TOO_SMALL,
    TRUNCATED,
)

_UPRIGHT: dict[int, Callable[[MatLike], MatLike]] = {
    2: lambda rgb_u8: cv2.flip(rgb_u8, 1),
    3: lambda rgb_u8: cv2.rotate(rgb_u8, cv2.ROTATE_180),
    4: lambda rgb_u8: cv2.flip(rgb_u8, 0),
    5: lambda rgb_u8: cv2.transpose(rgb_u8),
    6: lambda rgb_u8: cv2.rotate(rgb_u8, cv2.ROTATE_90_CLOCKWISE),
    7: lambda rgb_u8: cv2.rotate(cv2.transpose(rgb_u8), cv2.ROTATE_180),
    8: lambda rgb_u8: cv2.rotate(rgb_u8, cv2.ROTATE_90_COUNTERCLOCKWISE),
}

_SWAPS_SIDES = (5, 6, 7, 8)
"""Orientations that exchange width and height."""

_DAMAGE = re.compile(r"Corrupt JPEG data(?!.*extraneous bytes before marker 0xd9)|Premature end")
"""Warnings of libjpeg about invented pixels. Extra bytes between the last pixel and the end marker do no harm."""


@dataclass(frozen=True)
class Limits:
    """Limits on the files that ``decode`` accepts.

    Attributes:
        max_bytes: size of the file.
        max_pixels: width times height.
        min_side_px: the shorter side.
        max_aspect: the longer side over the shorter one.
        formats: a selection of ``sniff.DECODABLE``.
        animated: use the ``first`` frame of animated and multi-picture files, or ``drop`` such files.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    min_side_px: int = 64
    max_aspect: float = 8.0
    formats: tuple[str, ...] = DECODABLE
    animated: Literal["first", "drop"] = "first"


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image.

    Attributes:
        rgb_u8: (H, W, 3) uint8 sRGB, C-contiguous, orientation applied.
        format: of the file, a name from ``sniff.DECODABLE``.
        mode: Pillow's colour mode of the stored pixels (``RGB``, ``CMYK``, ``P``, ``I;16``, ...).
        exif_orientation: as stored, 1 to 8.
        n_frames: number of frames in the file; ``rgb_u8`` is the first one.
        width_px, height_px: of ``rgb_u8``.
    """

    rgb_u8: RgbU8
    format: str
    mode: str
    exif_orientation: int
    n_frames: int
    width_px: int
    height_px: int


def decode(data: bytes, limits: Limits) -> Picture:
    """Decode an image file.

    Args:
        data: the whole file.
        limits: on the file.

    Raises:
        IntakeError: the file is not accepted; the error carries the reason.
    """
    image_format = _accepted_format(data, limits)
    header = read_jpeg(data) if image_format == "jpeg" else read_other(image_format, data)
    _check_size(image_format, header, limits)
    if header.n_frames > 1 and limits.animated == "drop":
        raise IntakeError(ANIMATED, f"{image_format}: {header.n_frames} frames; the recipe drops such files")
    decoded = _decode_jpeg(header) if image_format == "jpeg" and not header.ends_early else None
    mode, rgb_u8 = decoded or _decode_with_pillow(image_format, header)
    if header.orientation in _UPRIGHT:
        rgb_u8 = np.asarray(_UPRIGHT[header.orientation](rgb_u8), np.uint8)
    height_px, width_px = rgb_u8.shape[:2]
    return Picture(rgb_u8, image_format, mode, header.orientation, header.n_frames, width_px, height_px)


def _accepted_format(data: bytes, limits: Limits) -> str:
    if not data:
        raise IntakeError(EMPTY_FILE, "the file has 0 bytes")
    if len(data) > limits.max_bytes:
        raise IntakeError(TOO_MANY_BYTES, f"{len(data)} bytes, at most {limits.max_bytes} are read")
    image_format = sniff(data)
    if image_format is None:
        raise IntakeError(NOT_IMAGE, f"no known image format starts with the bytes {data[:8].hex(' ')}")
    if image_format in NO_PICTURE:
        raise IntakeError(NOT_IMAGE, f"the content is {image_format}, not an image")
    if image_format not in limits.formats:
        allowed = ", ".join(limits.formats)
        raise IntakeError(FORMAT_NOT_ALLOWED, f"the content is {image_format}; allowed formats are {allowed}")
    return image_format


def _check_size(image_format: str, header: Header, limits: Limits) -> None:
    width_px, height_px = header.width_px, header.height_px
    long_px, short_px = max(width_px, height_px), min(width_px, height_px)
    found = f"{image_format}: {width_px} x {height_px} pixels"
    if short_px <= 0:
        raise IntakeError(CORRUPT, f"{found}; the header is damaged")
    upright = (height_px, width_px) if header.orientation in _SWAPS_SIDES else (width_px, height_px)
    size = dict(zip(("width_px", "height_px"), upright, strict=True))
    if long_px >= 2**31:
        size = {}  # the manifest's columns are int32
    if long_px * short_px > limits.max_pixels:
        raise IntakeError(TOO_MANY_PIXELS, f"{found}; at most {limits.max_pixels} pixels in total are allowed", size)
    if short_px < limits.min_side_px:
        raise IntakeError(TOO_SMALL, f"{found}; the shorter side must have at least {limits.min_side_px} pixels", size)
    if long_px > limits.max_aspect * short_px:
        message = f"{found}; the longer side may have at most {limits.max_aspect:g} times the length of the shorter one"
        raise IntakeError(BAD_ASPECT, message, size)


def _decode_jpeg(header: Header) -> tuple[str, RgbU8] | None:
    """Decode a complete JPEG to the same pixels as Pillow in less time. Return None for a file that needs Pillow.

    Raises:
        IntakeError: libjpeg warns of damaged data. Pillow and OpenCV would hide grey or displaced blocks.
    """
    is_plain = header.plain_mode is not None and is_srgb(header.icc)
    try:  # not with strict=False, which returns uninitialised memory for some files
        pixels_u8 = simplejpeg.decode_jpeg(header.pixels, "RGB" if is_plain else "GRAY")
    except ValueError as error:
        if _DAMAGE.search(str(error)):
            raise IntakeError(CORRUPT, f"jpeg: {error}; fetch it again or drop it") from error
        return None
    if not (header.plain_mode and is_plain and pixels_u8.shape == (header.height_px, header.width_px, 3)):
        return None
    return header.plain_mode, np.asarray(pixels_u8, np.uint8)


def _decode_with_pillow(image_format: str, header: Header) -> tuple[str, RgbU8]:
    if header.ends_early and ImageFile.LOAD_TRUNCATED_IMAGES:  # another package may have switched it on
        raise IntakeError(TRUNCATED, f"{image_format}: the data end early; fetch it again")
    try:
        image = header.image or open_image(image_format, header.pixels)
        if image.size != (header.width_px, header.height_px):
            raise IntakeError(CORRUPT, f"{image_format}: the file has a second header with another size, {image.size}")
        mode = image.mode
        image.load()
        return mode, srgb_u8(image, header.icc)
    except PILLOW_ERRORS as error:
        raise pillow_error(image_format, error, header.ends_early) from error
