"""Headers of PNG, GIF, WebP, BMP and AVIF files.

Pillow opens a WebP, BMP or AVIF, which decodes no pixel yet. A PNG or GIF is first reduced to one still image without
metadata; Pillow opens it after the limits are checked. Pillow would inflate every text of a PNG and refuse the image for
a damaged text. In a GIF, it would keep every comment and fill memory as large as the first frame.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from hifidata.core.errors import IntakeError
from hifidata.image.headers.base import PILLOW_ERRORS, Header, limited, open_image, pillow_error
from hifidata.image.headers.metadata import orientation_of
from hifidata.image.reasons import CORRUPT, TRUNCATED

_PNG_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_TEXTS = {b"XML:com.adobe.xmp": "xmp", b"Raw profile type exif": "exif"}
_MAX_METADATA_CHUNKS = 16  # real files have one of EXIF, of XMP and of a profile
_MAX_METADATA_BYTES = 4 * 2**20  # of each chunk, inflated; the largest printer profiles take about 2 MB

_GIF_FRAME, _GIF_EXTENSION, _GIF_CONTROL = 0x2C, 0x21, b"\x21\xf9"


def read_other(image_format: str, data: bytes) -> Header:
    """Read the header of a file that is not a JPEG.

    Args:
        image_format: ``png``, ``gif``, ``webp``, ``bmp`` or ``avif``.
        data: the whole file.

    Raises:
        IntakeError: the data end before the size is known (``truncated``) or make no sense (``corrupt``).
    """
    try:
        if image_format == "png":
            return _read_png(data)
        if image_format == "gif":
            return _read_gif(data)
        return _read_with_pillow(image_format, data)
    except (struct.error, IndexError) as error:
        message = f"{image_format}: {len(data)} bytes end inside the header; fetch it again"
        raise IntakeError(TRUNCATED, message) from error


def _read_with_pillow(image_format: str, data: bytes) -> Header:
    ends_early = False
    if image_format == "webp":
        ends_early = int.from_bytes(data[4:8], "little") + 8 > len(data)
        for _ in limited(_webp_chunks(data)):  # libwebp allocates memory for each chunk
            pass
    try:
        image = open_image(image_format, data)
    except PILLOW_ERRORS as error:
        ends_in_header = isinstance(error.__cause__, struct.error)
        raise pillow_error(image_format, error, ends_early or ends_in_header) from error
    xmp = None if image_format == "avif" else image.info.get("xmp")  # only the properties of an AVIF orient it
    return Header(
        *image.size,
        image=image,
        n_frames=getattr(image, "n_frames", 1),
        orientation=orientation_of(image.info.get("exif"), xmp),
        icc=image.info.get("icc_profile"),
        ends_early=ends_early,
    )


def _webp_chunks(data: bytes) -> Iterator[int]:
    """Yield where each chunk starts."""
    at = 12
    while at < len(data):
        yield at
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2


def _read_png(data: bytes) -> Header:
    """Keep the chunks of the still image; read orientation, colour profile and number of frames from the others."""
    width_px, height_px = struct.unpack_from(">II", data, 16)
    if data[12:16] != b"IHDR":
        raise IntakeError(CORRUPT, f"png: the first chunk is {data[12:16]!r}, expected IHDR")
    pixels, metadata = [data[:8]], dict[str, bytes]()
    n_metadata, n_frames, name = 0, 0, b""
    for name, start, stop in limited(_png_chunks(data)):
        if name in _PNG_PIXEL_CHUNKS or not name.isalpha():  # Pillow refuses a damaged name
            pixels.append(data[start:stop])
        elif found := _png_metadata(name, data[start + 8 : stop - 4]):
            metadata |= found
            n_metadata += 1
            if n_metadata > _MAX_METADATA_CHUNKS:
                raise IntakeError(CORRUPT, f"png: more than {_MAX_METADATA_CHUNKS} chunks of metadata; drop it")
        n_frames += name == b"fcTL" or (name == b"IDAT" and n_frames == 0)
    return Header(
        width_px,
        height_px,
        pixels=b"".join(pixels),
        n_frames=n_frames,
        orientation=orientation_of(metadata.get("exif"), metadata.get("xmp")),
        icc=metadata.get("icc") or None,
        ends_early=name.isalpha() and name != b"IEND",
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, stop) of each chunk up to IEND or damage; the last one may reach past the end."""
    at, name = 8, b"IHDR"
    while at + 8 <= len(data) and name.isalpha() and name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, at)
        yield name, at, at + 12 + length
        at += 12 + length


def _png_metadata(name: bytes, body: bytes) -> dict[str, bytes]:
    """Return EXIF, XMP or the colour profile where the chunk holds it. Other texts are not inflated."""
    if name == b"eXIf":
        return {"exif": body}
    keyword, _, rest = body.partition(b"\x00")
    if name == b"iCCP":
        return {"icc": _inflated(rest[1:])}
    kind = _PNG_TEXTS.get(keyword)
    if kind is None or name not in (b"tEXt", b"zTXt", b"iTXt"):
        return {}
    if name == b"iTXt":
        is_compressed, text = rest[:1] == b"\x01", rest[2:].split(b"\x00", 2)[-1]
    else:
        is_compressed, text = name == b"zTXt", rest[name == b"zTXt" :]
    text = _inflated(text) if is_compressed else text
    return {kind: _bytes_of_hex(text) if kind == "exif" else text}


def _inflated(compressed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(compressed, _MAX_METADATA_BYTES)
    except zlib.error:
        return b""


def _bytes_of_hex(text: bytes) -> bytes:
    """Decode ImageMagick's form: an empty line, the profile's name, its length, hex digits."""
    try:
        return bytes.fromhex(b"".join(text[:_MAX_METADATA_BYTES].split(b"\n", 3)[3:]).decode("ascii"))
    except ValueError:
        return b""


def _read_gif(data: bytes) -> Header:
    """Keep the first frame. Where it exceeds the canvas, the canvas grows, as in Pillow."""
    width_px, height_px, flags = struct.unpack_from("<HHB", data, 6)
    blocks_start = 13 + _gif_palette_bytes(flags)
    pixels, n_frames, name = [data[:blocks_start]], 0, _GIF_EXTENSION
    for name, start, stop in limited(_gif_blocks(data, blocks_start)):
        if n_frames == 0 and (name == _GIF_FRAME or data.startswith(_GIF_CONTROL, start)):
            pixels.append(data[start:stop])
        if n_frames == 0 and name == _GIF_FRAME:
            left, top, width, height = struct.unpack_from("<4H", data, start + 1)
            width_px, height_px = max(width_px, left + width), max(height_px, top + height)
        n_frames += name == _GIF_FRAME
    ends_early = name in (_GIF_FRAME, _GIF_EXTENSION)
    return Header(width_px, height_px, b"".join(pixels), n_frames=n_frames, ends_early=ends_early)


def _gif_blocks(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield (introducer, start, stop) of each frame and extension, and of the byte that ends the file."""
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
