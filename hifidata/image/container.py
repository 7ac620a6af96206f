"""What a picture file says about itself, read without decoding a pixel.

Gives the size before any memory is spent on it, and hands the decoder a file without metadata: no text bombs, no damaged
EXIF, no second picture. Reading stops where the structure ends; the decoder has the last word on damage.
"""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

from PIL import AvifImagePlugin

from hifidata.errors import IntakeError
from hifidata.image.metadata import n_pictures, orientation_of
from hifidata.schema import Reason

_MAX_METADATA_BYTES = 4 * 2**20  # after decompression; the largest printer profiles take about 2 MB
_MAX_SCANS = 100  # real progressive files have about ten; each costs a pass over the whole picture

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # not: escaped data byte, restart marker, fill byte
_SOF = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PLAIN_MODES: dict[tuple[int, int, int], Literal["L", "RGB"]] = {  # by frame type, bits, components
    (sof, 8, n): mode for sof in (0xC0, 0xC1, 0xC2) for n, mode in ((1, "L"), (3, "RGB"))
}
_PNG_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


@dataclass(frozen=True)
class Header:
    """A file's own account of its picture.

    Attributes:
        width_px, height_px: as stored, before orientation; of the first frame where it is larger than the canvas.
        pixels: the file without metadata and further pictures; what the decoder gets.
        n_frames: counted, not believed.
        orientation: 1 to 8.
        icc: embedded colour profile.
        ends_early: the data stops before the structure does.
        plain_mode: "L" or "RGB" for an 8-bit Huffman-coded JPEG of 1 or 3 components that is there up to its end marker.
    """

    width_px: int
    height_px: int
    pixels: bytes
    n_frames: int = 1
    orientation: int = 1
    icc: bytes | None = None
    ends_early: bool = False
    plain_mode: Literal["L", "RGB"] | None = None


def read_header(kind: str, data: bytes) -> Header:
    """Reads a file's header.

    Args:
        kind: a name from ``sniff.DECODABLE``.
        data: the whole file.

    Raises:
        IntakeError: the file stops before the size is known (``truncated``), or makes no sense (``corrupt``).
    """
    try:
        return _READERS[kind](data)
    except (struct.error, IndexError) as error:
        raise IntakeError(Reason.TRUNCATED, f"{kind}: {len(data)} bytes end inside the header; fetch it again") from error


def _jpeg(data: bytes) -> Header:
    size: tuple[int, int] | None = None
    plain_mode, complete = None, False
    exif, xmp, mpf, n_scans, end = b"", b"", b"", 0, len(data)
    icc_parts: list[bytes] = []
    kept, at = [], 0
    for marker, start, stop in _jpeg_segments(data):
        body = data[start + 4 : stop]
        if marker in _SOF and size is None:
            precision, height_px, width_px, n_components = struct.unpack_from(">BHHB", body)
            size = width_px, height_px
            plain_mode = _PLAIN_MODES.get((marker, precision, n_components))
        elif marker == 0xDA:
            n_scans += 1
        elif marker == 0xD9:
            complete, end = n_scans > 0, stop
        elif marker == 0xE1 and body.startswith(b"Exif\x00\x00"):
            exif += body[6:]
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\x00"):
            xmp = body
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\x00"):
            icc_parts.append(body[12:])
        elif marker == 0xE2 and body.startswith(b"MPF\x00"):
            mpf = body[4:]
        if _is_jpeg_metadata(marker, body):
            kept.append(data[at:start])
            at = stop
    if n_scans > _MAX_SCANS:
        raise IntakeError(Reason.CORRUPT, f"jpeg: {n_scans} scans, at most {_MAX_SCANS} are decoded")
    if size is None:
        raise IntakeError(Reason.TRUNCATED, f"jpeg: {len(data)} bytes hold no frame header; fetch it again")
    is_gain_map = b"hdrgm:Version" in xmp  # the second picture is a brightness map of the first, not another view
    icc_parts.sort(key=lambda part: part[:1])
    return Header(
        *size,
        pixels=b"".join([*kept, data[at:end]]),
        n_frames=1 if is_gain_map else n_pictures(mpf),
        orientation=orientation_of(exif, xmp),
        icc=b"".join(part[2:] for part in icc_parts) or None,
        ends_early=not complete,
        plain_mode=plain_mode if complete else None,
    )


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, stop) of each segment up to the end marker; searching for the next one skips entropy-coded data."""
    at = 2
    while found := _JPEG_MARKER.search(data, at):
        start, marker = found.start(), data[found.start() + 1]
        if marker in (0x01, 0xD8, 0xD9):  # these carry no length
            at = start + 2
        elif start + 4 <= len(data):
            at = start + 2 + max(2, int.from_bytes(data[start + 2 : start + 4], "big"))
        if at > len(data) or at == start:
            return
        yield marker, start, at
        if marker == 0xD9:
            return


def _is_jpeg_metadata(marker: int, body: bytes) -> bool:
    """JFIF and Adobe segments say how the components are coded and stay."""
    if marker == 0xE0:
        return not body.startswith(b"JFIF")
    if marker == 0xEE:
        return not body.startswith(b"Adobe")
    return marker == 0xFE or 0xE0 <= marker <= 0xEF


def _png(data: bytes) -> Header:
    if len(data) >= 16 and data[12:16] != b"IHDR":
        raise IntakeError(Reason.CORRUPT, f"png: starts with chunk {data[12:16]!r}, expected IHDR")
    width_px, height_px = struct.unpack_from(">II", data, 16)
    texts: dict[bytes, bytes] = {}
    exif, icc, n_controls, idat_first, ended, at = b"", None, 0, False, False, 8
    kept = [data[:8]]
    while at + 8 <= len(data) and not ended:
        length, name = struct.unpack_from(">I4s", data, at)
        stop = at + 12 + length
        body = data[at + 8 : stop - 4] if name not in (b"IDAT", b"fdAT") else b""
        if not name.isalpha():
            ended = True  # damage, not an early end: the decoder will say so
        if name in _PNG_PIXEL_CHUNKS or ended:
            kept.append(data[at:stop])
        if name == b"fcTL":
            n_controls += 1
        elif name == b"IDAT":
            idat_first = idat_first or n_controls == 0
        elif name == b"eXIf":
            exif = body
        elif name == b"iCCP":
            icc = _inflate(body.partition(b"\x00")[2][1:]) or None
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            texts.update(_orientation_text(name, body))
        ended = ended or (name == b"IEND" and stop <= len(data))
        at = stop
    return Header(
        width_px,
        height_px,
        pixels=b"".join(kept),
        n_frames=n_controls + idat_first if n_controls else 1,
        orientation=orientation_of(exif or texts.get(b"exif"), texts.get(b"xmp")),
        icc=icc,
        ends_early=not ended,
    )


def _orientation_text(name: bytes, body: bytes) -> dict[bytes, bytes]:
    """The two PNG texts that can carry an orientation, as ``exif`` or ``xmp``; any other stays compressed."""
    keyword, _, rest = body.partition(b"\x00")
    if keyword not in (b"Raw profile type exif", b"XML:com.adobe.xmp"):
        return {}
    if name == b"zTXt":
        rest = _inflate(rest[1:])
    elif name == b"iTXt":
        text = rest[2:].split(b"\x00", 2)[-1]
        rest = _inflate(text) if rest[:1] == b"\x01" else text
    if keyword.startswith(b"XML"):
        return {b"xmp": rest}
    digits = b"".join(rest.split(b"\n")[3:])  # an empty line, the name and the length come first
    try:
        return {b"exif": bytes.fromhex(digits.decode("ascii"))}
    except ValueError:
        return {}


def _inflate(compressed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(compressed, _MAX_METADATA_BYTES)
    except zlib.error:
        return b""


def _gif(data: bytes) -> Header:
    width_px, height_px, flags = struct.unpack_from("<HHB", data, 6)
    n_frames, ended, at = 0, False, 13 + _gif_palette_bytes(flags)
    while at < len(data) and not ended:
        if data[at] == 0x2C:
            left, top, width, height, flags = struct.unpack_from("<4HB", data, at + 1)
            if n_frames == 0:
                width_px, height_px = max(width_px, left + width), max(height_px, top + height)
            n_frames += 1
            at = _gif_blocks_end(data, at + 11 + _gif_palette_bytes(flags))
        elif data[at] == 0x21:
            at = _gif_blocks_end(data, at + 2)
        else:
            ended = True
    return Header(width_px, height_px, data, n_frames=max(1, n_frames), ends_early=not ended)


def _gif_palette_bytes(flags: int) -> int:
    return 6 << (flags & 7) if flags & 0x80 else 0


def _gif_blocks_end(data: bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += data[at] + 1
    return at + 1


def _webp(data: bytes) -> Header:
    chunks: dict[bytes, bytes] = {}
    n_frames, at = 0, 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        n_frames += name == b"ANMF"
        if name in (b"ICCP", b"EXIF", b"XMP "):
            chunks.setdefault(name, data[at + 8 : at + 8 + length])
        at += 8 + length + (length & 1)
    return Header(
        *_webp_size(data),
        pixels=data,
        n_frames=max(1, n_frames),
        orientation=orientation_of(chunks.get(b"EXIF"), chunks.get(b"XMP ")),
        icc=chunks.get(b"ICCP"),
        ends_early=struct.unpack_from("<I", data, 4)[0] + 8 > len(data),
    )


def _webp_size(data: bytes) -> tuple[int, int]:
    if data[12:16] == b"VP8X":
        width_1, height_1 = struct.unpack_from("<3s3s", data, 24)
        return int.from_bytes(width_1, "little") + 1, int.from_bytes(height_1, "little") + 1
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if data[12:16] != b"VP8 " or data[23:26] not in (b"\x9d\x01\x2a", b""):
        raise IntakeError(Reason.CORRUPT, f"webp: starts with chunk {data[12:16]!r}, expected VP8, VP8L or VP8X")
    width_px, height_px = struct.unpack_from("<HH", data, 26)
    return width_px & 0x3FFF, height_px & 0x3FFF


def _bmp(data: bytes) -> Header:
    if data[14] == 12:
        width_px, height_px = struct.unpack_from("<HH", data, 18)
    else:
        width_px, height_px = struct.unpack_from("<ii", data, 18)
    return Header(abs(width_px), abs(height_px), data)


def _avif(data: bytes) -> Header:
    """Parsed by libavif, which decodes nothing yet; Pillow folds the file's own rotation and mirroring into its EXIF."""
    try:
        picture = open_avif(data)
    except (OSError, SyntaxError, ValueError, RuntimeError) as error:
        reason = Reason.TRUNCATED if "runcated" in str(error) else Reason.CORRUPT
        raise IntakeError(reason, f"avif: {error}") from error
    info = picture.info
    return Header(
        *picture.size,
        pixels=data,
        n_frames=max(1, picture.n_frames),
        orientation=orientation_of(info.get("exif"), None),
        icc=info.get("icc_profile"),
    )


def open_avif(data: bytes) -> AvifImagePlugin.AvifImageFile:
    """Opens an AVIF; the one reader that cannot be kept from parsing EXIF, so its complaints are silenced right here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AvifImagePlugin.AvifImageFile(BytesIO(data))


_READERS: dict[str, Callable[[bytes], Header]] = {
    "jpeg": _jpeg, "png": _png, "gif": _gif, "webp": _webp, "bmp": _bmp, "avif": _avif,
}  # fmt: skip
