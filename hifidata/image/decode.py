"""Bytes to an upright sRGB picture, or to the reason why not.

What a file is called plays no part: the content picks one decoder from an allow-list, and that decoder alone gets the
bytes. Sizes are judged from the header, before memory is spent on pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import simplejpeg
from cv2.typing import MatLike
from PIL import ImageFile

from hifidata.core.errors import IntakeError
from hifidata.image.colour import RgbU8, is_srgb, srgb_u8
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
"""Orientations whose upright picture is as wide as the stored one is high."""

_DAMAGE = re.compile(r"Corrupt JPEG data(?!.*extraneous bytes before marker 0xd9)|Premature end")
"""Those of libjpeg's warnings that say that pixels are made up. Bytes between the last of them and the end marker cost none."""


@dataclass(frozen=True)
class Limits:
    """What ``decode`` accepts.

    Attributes:
        max_bytes: size of the file.
        max_pixels: width times height.
        min_side_px: the shorter side.
        max_aspect: the longer side over the shorter one.
        formats: a selection of ``sniff.DECODABLE``.
        animated: use the ``first`` frame of animated and multi-picture files, or ``drop`` them.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    min_side_px: int = 64
    max_aspect: float = 8.0
    formats: tuple[str, ...] = DECODABLE
    animated: Literal["first", "drop"] = "first"


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        rgb_u8: (H, W, 3) uint8 sRGB, C-contiguous, orientation applied.
        format: what the bytes were: a name from ``sniff.DECODABLE``.
        mode: Pillow's name for the pixels as stored (``RGB``, ``CMYK``, ``P``, ``I;16``, ...).
        exif_orientation: the orientation that was undone, 1 to 8.
        n_frames: of which ``rgb_u8`` is the first.
        width_px, height_px: upright.
    """

    rgb_u8: RgbU8
    format: str
    mode: str
    exif_orientation: int
    n_frames: int
    width_px: int
    height_px: int


def decode(data: bytes, limits: Limits) -> Picture:
    """Decodes a picture file.

    Args:
        data: the whole file.
        limits: what to accept.

    Raises:
        IntakeError: with the reason, for every file that is not accepted.
    """
    kind = _accepted_kind(data, limits)
    header = read_jpeg(data) if kind == "jpeg" else read_other(kind, data)
    _check_size(kind, header, limits)
    if header.n_frames > 1 and limits.animated == "drop":
        raise IntakeError(ANIMATED, f"{kind}: {header.n_frames} frames; intake is set to drop such files")
    mode, rgb_u8 = _decode_plain_jpeg(header) or _decode_with_pillow(kind, header)
    if header.orientation in _UPRIGHT:
        rgb_u8 = np.asarray(_UPRIGHT[header.orientation](rgb_u8), np.uint8)
    height_px, width_px = rgb_u8.shape[:2]
    return Picture(rgb_u8, kind, mode, header.orientation, header.n_frames, width_px, height_px)


def _accepted_kind(data: bytes, limits: Limits) -> str:
    if not data:
        raise IntakeError(EMPTY_FILE, "the file has 0 bytes")
    if len(data) > limits.max_bytes:
        raise IntakeError(TOO_MANY_BYTES, f"{len(data)} bytes, at most {limits.max_bytes} are read")
    kind = sniff(data)
    if kind is None:
        raise IntakeError(NOT_IMAGE, f"no picture format starts with the bytes {data[:8].hex(' ')}")
    if kind in NO_PICTURE:
        raise IntakeError(NOT_IMAGE, f"the content is {kind}, no picture")
    if kind not in limits.formats:
        raise IntakeError(FORMAT_NOT_ALLOWED, f"the content is {kind}, allowed are {', '.join(limits.formats)}")
    return kind


def _check_size(kind: str, header: Header, limits: Limits) -> None:
    width_px, height_px = header.width_px, header.height_px
    long_px, short_px = max(width_px, height_px), min(width_px, height_px)
    found = f"{kind}: {width_px} x {height_px} pixels"
    if short_px <= 0:
        raise IntakeError(CORRUPT, f"{found}, the header is damaged")
    upright = (height_px, width_px) if header.orientation in _SWAPS_SIDES else (width_px, height_px)
    size = (
        dict(zip(("width_px", "height_px"), upright, strict=True)) if long_px < 2**31 else {}
    )  # int32 in the manifest
    if long_px * short_px > limits.max_pixels:
        raise IntakeError(TOO_MANY_PIXELS, f"{found}, at most {limits.max_pixels} in all are decoded", size)
    if short_px < limits.min_side_px:
        raise IntakeError(TOO_SMALL, f"{found}, the shorter side must have at least {limits.min_side_px}", size)
    if long_px > limits.max_aspect * short_px:
        raise IntakeError(BAD_ASPECT, f"{found}, the longer side may be {limits.max_aspect:g} times the shorter", size)


def _decode_plain_jpeg(header: Header) -> tuple[str, RgbU8] | None:
    """Same pixels as Pillow's in less time; None hands difficult files to Pillow.

    Only files whose end marker was found go in. Raises IntakeError where the data between are damaged.
    """
    if not (header.plain_mode and is_srgb(header.icc)):
        return None
    try:
        rgb_u8 = _decode_jpeg(header.pixels, "RGB")
    except ValueError:
        return None
    return (header.plain_mode, rgb_u8) if rgb_u8.shape == (header.height_px, header.width_px, 3) else None


def _decode_jpeg(data: bytes, colours: str) -> RgbU8:
    """(H, W, C) uint8. Raises IntakeError where libjpeg warns of damage, ValueError where it cannot decode at all.

    Pillow and OpenCV keep such warnings to themselves, and the grey or displaced blocks that come of it.
    """
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, colours), np.uint8)
    except ValueError as error:
        if _DAMAGE.search(str(error)):
            raise IntakeError(CORRUPT, f"jpeg: {error}; fetch it again or drop it") from None
        return np.asarray(simplejpeg.decode_jpeg(data, colours, strict=False), np.uint8)


def _decode_with_pillow(kind: str, header: Header) -> tuple[str, RgbU8]:
    if header.ends_early and ImageFile.LOAD_TRUNCATED_IMAGES:
        raise IntakeError(TRUNCATED, f"{kind}: the data ends early, and Pillow was told to make up the rest")
    try:
        image = header.image or open_image(kind, header.pixels)
        if image.size != (header.width_px, header.height_px):
            raise IntakeError(CORRUPT, f"{kind}: the header tells two sizes, {image.size} is the second")
        mode = image.mode
        if kind == "jpeg" and not header.ends_early:
            _refuse_damage(header.pixels, mode)
        image.load()
        return mode, srgb_u8(image, header.icc)
    except PILLOW_ERRORS as error:
        raise pillow_error(kind, error, header.ends_early) from error


def _refuse_damage(jpeg: bytes, mode: str) -> None:
    """Raises IntakeError where libjpeg warns of damage, which Pillow does not say."""
    with suppress(ValueError):  # Pillow says better what it cannot decode
        _decode_jpeg(jpeg, "CMYK" if mode == "CMYK" else "GRAY")
