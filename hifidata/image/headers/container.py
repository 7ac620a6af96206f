"""One header reader per format."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO

from PIL import AvifImagePlugin

from hifidata.core.errors import IntakeError
from hifidata.image.headers.base import Header, limited
from hifidata.image.headers.jpeg import read_jpeg
from hifidata.image.headers.metadata import orientation_of
from hifidata.image.headers.png import read_png
from hifidata.image.reasons import CORRUPT, TRUNCATED

_GIF_FRAME, _GIF_EXTENSION, _GIF_CONTROL = 0x2C, 0x21, b"\x21\xf9"


def read_header(kind: str, data: bytes) -> Header:
    """Reads a file's header.

    Args:
        kind: a name from ``sniff.DECODABLE``.
        data: the whole file.

    Raises:
        IntakeError: the file stops before its size is known (``truncated``), or makes no sense (``corrupt``).
    """
    try:
        return _READERS[kind](data)
    except (struct.error, IndexError) as error:
        message = f"{kind}: {len(data)} bytes end inside the header; fetch it again"
        raise IntakeError(TRUNCATED, message) from error


def _read_gif(data: bytes) -> Header:
    """``pixels`` ends with the first frame, which may be larger than the canvas; the canvas then grows with it."""
    width_px, height_px, flags = struct.unpack_from("<HHB", data, 6)
    blocks_start = 13 + _gif_palette_bytes(flags)
    pixels, n_frames, name = bytearray(data[:blocks_start]), 0, 0
    for name, start, stop in limited(_gif_blocks(data, blocks_start)):
        if n_frames == 0 and (name == _GIF_FRAME or data[start : start + 2] == _GIF_CONTROL):
            pixels += data[start:stop]
        if n_frames == 0 and name == _GIF_FRAME:
            left, top, width, height = struct.unpack_from("<4H", data, start + 1)
            width_px, height_px = max(width_px, left + width), max(height_px, top + height)
        n_frames += name == _GIF_FRAME
    ends_early = name in (_GIF_FRAME, _GIF_EXTENSION)
    if n_frames == 0:
        reason = TRUNCATED if ends_early else CORRUPT
        raise IntakeError(reason, f"gif: no picture in {len(data)} bytes; fetch it again or drop it")
    return Header(width_px, height_px, bytes(pixels), n_frames=n_frames, ends_early=ends_early)


def _gif_blocks(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """(introducer, start, stop) of each frame and extension, and of what ends them."""
    while at < len(data):
        start, name = at, data[at]
        if name == _GIF_FRAME:
            at += 11 + _gif_palette_bytes(data[at + 9])
        elif name == _GIF_EXTENSION:
            at += 2
        else:
            yield name, start, start + 1
            return
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
        yield name, start, at


def _gif_palette_bytes(flags: int) -> int:
    return 6 << (flags & 7) if flags & 0x80 else 0


def _read_webp(data: bytes) -> Header:
    width_px, height_px = _webp_size(data)
    facts: dict[bytes, bytes] = {}
    n_frames = 0
    for name, start, stop in limited(_webp_chunks(data)):
        n_frames += name == b"ANMF"
        if name in (b"ICCP", b"EXIF", b"XMP "):
            facts.setdefault(name, data[start:stop])
    return Header(
        width_px,
        height_px,
        pixels=data,
        n_frames=max(1, n_frames),
        orientation=orientation_of(facts.get(b"EXIF"), facts.get(b"XMP ")),
        icc=facts.get(b"ICCP"),
        ends_early=struct.unpack_from("<I", data, 4)[0] + 8 > len(data),
    )


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, stop) of each chunk's content."""
    at = 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        yield name, at + 8, at + 8 + length
        at += 8 + length + (length & 1)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Source: RFC 9649, 2.5 (lossy), 2.6 (lossless), 2.7.1 (extended)."""
    kind = data[12:16]
    if kind == b"VP8X":
        width_1, height_1 = struct.unpack_from("<3s3s", data, 24)
        return int.from_bytes(width_1, "little") + 1, int.from_bytes(height_1, "little") + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width_px, height_px = struct.unpack_from("<HH", data, 26)
    if kind != b"VP8 " or data[23:26] != b"\x9d\x01\x2a":
        raise IntakeError(CORRUPT, f"webp: the first chunk is {kind!r}, expected the start of VP8, VP8L or VP8X")
    return width_px & 0x3FFF, height_px & 0x3FFF


def _read_bmp(data: bytes) -> Header:
    width_px, height_px = struct.unpack_from("<HH" if data[14] == 12 else "<ii", data, 18)
    return Header(abs(width_px), abs(height_px), data)


def _read_avif(data: bytes) -> Header:
    """Parsed by libavif, which decodes nothing yet; Pillow folds the file's own rotation and mirroring into its EXIF."""
    try:
        picture = open_avif(data)
    except (OSError, SyntaxError, ValueError, RuntimeError) as error:
        reason = TRUNCATED if "truncated" in str(error).lower() else CORRUPT
        raise IntakeError(reason, f"avif: {error}; fetch it again or drop it") from error
    return Header(
        *picture.size,
        pixels=data,
        n_frames=max(1, picture.n_frames),
        orientation=orientation_of(picture.info.get("exif"), None),
        icc=picture.info.get("icc_profile"),
    )


def open_avif(data: bytes) -> AvifImagePlugin.AvifImageFile:
    """Opens an AVIF. Pillow reads its EXIF come what may and warns about damage in it, which is silenced just here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AvifImagePlugin.AvifImageFile(BytesIO(data))


_READERS: dict[str, Callable[[bytes], Header]] = {
    "jpeg": read_jpeg,
    "png": read_png,
    "gif": _read_gif,
    "webp": _read_webp,
    "bmp": _read_bmp,
    "avif": _read_avif,
}
