"""What a picture file says about itself, read without decoding a pixel.

Gives the size before any memory is spent on it, and hands the decoder a file without metadata: no text bombs, no damaged
EXIF, no second picture. Reading stops where the structure ends; the decoder has the last word on damage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from hifidata.core.errors import IntakeError
from hifidata.image.reasons import CORRUPT

_MAX_PARTS = 2**16

PartT = TypeVar("PartT")


@dataclass(frozen=True)
class Header:
    """A file's own account of its picture.

    Attributes:
        width_px, height_px: as stored, before orientation.
        pixels: the file without metadata and further pictures; what the decoder gets.
        n_frames: counted, not believed.
        orientation: 1 to 8.
        icc: embedded colour profile.
        ends_early: the data stops before the structure does.
        plain_mode: ``L`` or ``RGB`` for an 8-bit Huffman-coded JPEG of 1 or 3 components, complete to its end marker.
    """

    width_px: int
    height_px: int
    pixels: bytes
    n_frames: int = 1
    orientation: int = 1
    icc: bytes | None = None
    ends_early: bool = False
    plain_mode: Literal["L", "RGB"] | None = None


def limited(parts: Iterable[PartT]) -> Iterator[PartT]:
    """Passes a file's parts on; real files have a few thousand at most, hostile ones millions of empty ones.

    Raises:
        IntakeError: more than 65536 parts.
    """
    for n_parts, part in enumerate(parts):
        if n_parts == _MAX_PARTS:
            raise IntakeError(CORRUPT, f"more than {_MAX_PARTS} segments, chunks or blocks in one file")
        yield part
