"""PNG: a chain of named chunks. Only five of them make pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from hifidata.core.errors import IntakeError
from hifidata.image.headers.base import Header, limited
from hifidata.image.headers.metadata import orientation_of
from hifidata.image.reasons import CORRUPT

_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_MAX_INFLATED_BYTES = 4 * 2**20  # the largest printer profiles take about 2 MB


def read_png(data: bytes) -> Header:
    """Reads a PNG; of an animated one, ``pixels`` holds the still picture. See ``container.read_header``."""
    width_px, height_px = struct.unpack_from(">II", data, 16)
    if data[12:16] != b"IHDR":
        raise IntakeError(CORRUPT, f"png: the first chunk is {data[12:16]!r}, expected IHDR")
    pixels, facts = bytearray(data[:8]), {b"exif": b"", b"xmp": b"", b"icc": b""}
    n_frame_controls, still_is_extra, name = 0, False, b""
    for name, start, stop in limited(_chunks(data)):
        if name in _PIXEL_CHUNKS or not name.isalpha():  # damage goes to the decoder, to be reported
            pixels += data[start:stop]
            still_is_extra |= name == b"IDAT" and n_frame_controls == 0
        elif name == b"fcTL":
            n_frame_controls += 1
        else:
            facts.update(_facts_of(name, data[start + 8 : stop - 4]))
    return Header(
        width_px,
        height_px,
        pixels=bytes(pixels),
        n_frames=n_frame_controls + still_is_extra if n_frame_controls else 1,
        orientation=orientation_of(facts[b"exif"], facts[b"xmp"]),
        icc=facts[b"icc"] or None,
        ends_early=name.isalpha() and name != b"IEND",
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, stop) of each chunk up to IEND or damage; the last one may reach past the end."""
    at, name = 8, b""
    while at + 8 <= len(data) and name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, at)
        yield name, at, at + 12 + length
        if not name.isalpha():
            return
        at += 12 + length


def _facts_of(name: bytes, body: bytes) -> dict[bytes, bytes]:
    """Orientation and colour profile; all other texts stay compressed."""
    if name == b"eXIf":
        return {b"exif": body}
    keyword, _, rest = body.partition(b"\x00")
    if name == b"iCCP":
        return {b"icc": _inflated(rest[1:])}
    if name == b"zTXt":
        text, inflate = rest[1:], True
    elif name == b"iTXt":
        text, inflate = rest[2:].split(b"\x00", 2)[-1], rest[:1] == b"\x01"
    else:
        text, inflate = rest, False
    if name in (b"iTXt", b"tEXt", b"zTXt") and keyword == b"XML:com.adobe.xmp":
        return {b"xmp": _inflated(text) if inflate else text}
    if name in (b"iTXt", b"tEXt", b"zTXt") and keyword == b"Raw profile type exif":
        return _exif_of_hex(_inflated(text) if inflate else text)
    return {}


def _exif_of_hex(text: bytes) -> dict[bytes, bytes]:
    """ImageMagick's form: an empty line, the profile's name, its length, hex digits."""
    try:
        return {b"exif": bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))}
    except ValueError:
        return {}


def _inflated(compressed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(compressed, _MAX_INFLATED_BYTES)
    except zlib.error:
        return b""
