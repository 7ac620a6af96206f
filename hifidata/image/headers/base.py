"""Facts of an image file that are known before a pixel is decoded, and helpers of all header readers."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Literal, TypeVar

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from hifidata.core.errors import IntakeError
from hifidata.image.reasons import CORRUPT, TOO_MANY_PIXELS, TRUNCATED

PILLOW_ERRORS = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, MemoryError, RuntimeError, SystemError,
    ArithmeticError,  # an AVIF with a clock of zero ticks per second
    AssertionError,  # a palette PNG without a palette
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""Errors that Pillow's plugins and their C libraries raise on damaged files."""

_PLUGINS: dict[str, Callable[[BytesIO], ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}

_MAX_PARTS = 2**16

PartT = TypeVar("PartT")


@dataclass(frozen=True)
class Header:
    """Facts of an image file.

    Attributes:
        width_px, height_px: as stored, before orientation.
        pixels: a JPEG, PNG or GIF without metadata and further images, to be opened after the limits are checked.
        image: any other file as opened by Pillow.
        n_frames: counted in the file.
        orientation: EXIF orientation, 1 to 8.
        icc: embedded colour profile.
        ends_early: the data end before the file's structure does.
        plain_mode: ``L`` or ``RGB`` for an 8-bit Huffman-coded JPEG of 1 or 3 components, complete to its end marker.
    """

    width_px: int
    height_px: int
    pixels: bytes = b""
    image: ImageFile.ImageFile | None = None
    n_frames: int = 1
    orientation: int = 1
    icc: bytes | None = None
    ends_early: bool = False
    plain_mode: Literal["L", "RGB"] | None = None


def limited(parts: Iterable[PartT]) -> Iterator[PartT]:
    """Pass on the parts of a file. Real files have a few thousand parts, hostile files have millions of empty ones.

    Raises:
        IntakeError: more than 65536 parts.
    """
    for n_parts, part in enumerate(parts):
        if n_parts == _MAX_PARTS:
            raise IntakeError(CORRUPT, f"more than {_MAX_PARTS} segments, chunks or blocks in one file")
        yield part


def open_image(image_format: str, data: bytes) -> ImageFile.ImageFile:
    """Open a file with the plugin of its format; no pixel is decoded. Raises one of ``PILLOW_ERRORS``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged EXIF in an AVIF, and about sizes, which have their own limits
        return _PLUGINS[image_format](BytesIO(data))


def pillow_error(image_format: str, error: Exception, ends_early: bool) -> IntakeError:
    """Return the IntakeError for one of ``PILLOW_ERRORS``.

    Args:
        image_format: for the message.
        error: as Pillow raised it.
        ends_early: whether the data are known to be incomplete.
    """
    said = str(error) or f"Pillow raised {type(error).__name__}"
    if isinstance(error, Image.DecompressionBombError):
        return IntakeError(TOO_MANY_PIXELS, f"{image_format}: {said}")
    if ends_early or "truncated" in said.lower():
        return IntakeError(TRUNCATED, f"{image_format}: the data end early ({said}); fetch it again")
    return IntakeError(CORRUPT, f"{image_format}: {said}; fetch it again or drop it")
