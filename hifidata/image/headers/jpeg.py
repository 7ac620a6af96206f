"""JPEG headers. A JPEG is a chain of segments; entropy-coded data follow each start-of-scan segment."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Literal

from hifidata.core.errors import IntakeError
from hifidata.image.headers.base import Header, limited
from hifidata.image.headers.metadata import n_images, orientation_of
from hifidata.image.reasons import CORRUPT, TRUNCATED

_MAX_SCANS = 50  # progressive files have about ten; each scan costs a pass over the whole image

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # not an escaped data byte, a restart marker or a fill byte
_SOI, _EOI, _SOS, _COM, _APP0, _APP1, _APP2, _APP14, _APP15 = 0xD8, 0xD9, 0xDA, 0xFE, 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN_DCT_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
_PLAIN_MODES: dict[tuple[int, int], Literal["L", "RGB"]] = {(8, 1): "L", (8, 3): "RGB"}  # by precision and components

_Segment = tuple[int, int, int]


def read_jpeg(data: bytes) -> Header:
    """Read a JPEG up to its end marker.

    Args:
        data: the whole file.

    Raises:
        IntakeError: the data end before the frame header (``truncated``), or there are too many segments or scans
            (``corrupt``).
    """
    segments = list(limited(_segments(data)))

    def payloads(marker: int, prefix: bytes) -> list[bytes]:
        """Return the content after this prefix of each segment with this marker."""
        return [
            data[start + 4 + len(prefix) : stop]
            for name, start, stop in segments
            if name == marker and data.startswith(prefix, start + 4)
        ]

    frames = ((name, start) for name, start, _ in segments if name in _FRAMES and start + 10 <= len(data))
    frame = next(frames, None)
    if frame is None:
        raise IntakeError(TRUNCATED, f"jpeg: no frame header in {len(data)} bytes; fetch it again")
    precision, height_px, width_px, n_components = struct.unpack_from(">BHHB", data, frame[1] + 4)
    n_scans = sum(name == _SOS for name, _, _ in segments)
    if n_scans > _MAX_SCANS:
        raise IntakeError(CORRUPT, f"jpeg: {n_scans} scans; at most {_MAX_SCANS} are decoded")
    complete = n_scans > 0 and segments[-1][0] == _EOI
    plain = complete and frame[0] in _HUFFMAN_DCT_FRAMES
    exif = b"".join(payloads(_APP1, b"Exif\x00\x00"))
    xmp = b"".join(payloads(_APP1, b"http://ns.adobe.com/xap/1.0/\x00"))
    is_gain_map = b"hdrgm:Version" in xmp  # the second image is a brightness map of the first, not another view
    icc = sorted(payloads(_APP2, b"ICC_PROFILE\x00"), key=lambda part: part[:1])
    return Header(
        width_px,
        height_px,
        pixels=_without_metadata(data, segments),
        n_frames=1 if is_gain_map else n_images(b"".join(payloads(_APP2, b"MPF\x00")[:1])),
        orientation=orientation_of(exif, xmp),
        icc=b"".join(part[2:] for part in icc) or None,
        ends_early=not complete,
        plain_mode=_PLAIN_MODES.get((precision, n_components)) if plain else None,
    )


def _segments(data: bytes) -> Iterator[_Segment]:
    """Yield (marker, start, stop) of each segment after the start marker. The search skips entropy-coded data."""
    at = 2
    while found := _MARKER.search(data, at):
        start, name = found.start(), data[found.start() + 1]
        if name in (0x01, _SOI, _EOI):  # these carry no length
            at = start + 2
        else:
            at = start + 2 + max(2, int.from_bytes(data[start + 2 : start + 4], "big"))
        if at > len(data):
            return
        yield name, start, at
        if name == _EOI:
            return


def _without_metadata(data: bytes, segments: list[_Segment]) -> bytes:
    """Remove comments and application data, except the JFIF and Adobe segments: they define the colour coding."""
    kept, scan_start = bytearray(data[:2]), None
    for name, start, stop in segments:
        if scan_start is not None:
            kept += data[scan_start:start]
        body = data[start + 4 : start + 9]
        defines_colours = (name == _APP0 and body.startswith(b"JFIF")) or (name == _APP14 and body.startswith(b"Adobe"))
        if defines_colours or not (name == _COM or _APP0 <= name <= _APP15):
            kept += data[start:stop]
        scan_start = stop if name == _SOS else None
    if not segments or segments[-1][0] != _EOI:
        kept += data[segments[-1][2] if segments else 2 :]
    return bytes(kept)
