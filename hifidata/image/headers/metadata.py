"""Orientation from EXIF and XMP, and the number of images from the multi-picture block of a JPEG.

Pillow's TIFF reader is not used: it reports damaged blocks as Python warnings.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

_ORIENTATION_TAG = 0x0112
_LONG = 4  # type in a TIFF entry
_MP_ENTRIES_TAG = 0xB002
_MP_ENTRY_BYTES = 16
_MP_THUMBNAIL_CLASS = 0x01
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


def orientation_of(exif: bytes | None, xmp: bytes | None) -> int:
    """Return the stored orientation, 1 to 8. XMP counts where EXIF has no such tag, as in Pillow.

    Args:
        exif: EXIF block with or without its ``Exif\\0\\0`` prefix.
        xmp: XMP packet.

    Returns:
        The orientation; 1 (upright) for a damaged block or a value outside 1 to 8.
    """
    for tag, order, value in _first_ifd((exif or b"").removeprefix(b"Exif\x00\x00")):
        if tag == _ORIENTATION_TAG:
            (value_type,) = struct.unpack_from(f"{order}H", value)
            orientation: int = struct.unpack_from(f"{order}I" if value_type == _LONG else f"{order}H", value, 6)[0]
            return orientation if 1 <= orientation <= 8 else 1
    found = _XMP_ORIENTATION.search(xmp or b"")
    return int(found[1]) if found else 1


def n_images(mpf: bytes) -> int:
    """Count the images in a multi-picture JPEG without the preview copies that cameras add.

    Args:
        mpf: APP2 payload after ``MPF\\0``.

    Source: CIPA DC-007, 5.2.3 (index IFD, MP entry, type code).
    """
    for tag, order, value in _first_ifd(mpf):
        if tag == _MP_ENTRIES_TAG:
            size, offset = struct.unpack(f"{order}2xII", value)
            entries = mpf[offset : offset + size]
            starts = range(0, len(entries) - _MP_ENTRY_BYTES + 1, _MP_ENTRY_BYTES)
            attributes: list[int] = [struct.unpack_from(f"{order}I", entries, at)[0] for at in starts]
            return max(1, sum(attribute >> 16 & 0xFF != _MP_THUMBNAIL_CLASS for attribute in attributes))
    return 1


def _first_ifd(tiff: bytes) -> Iterator[tuple[int, str, bytes]]:
    """Yield (tag, byte order, type + count + value: 10 bytes) of each entry in the first directory of a TIFF block."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 10:
        return
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return
    (n_entries,) = struct.unpack_from(f"{order}H", tiff, start)
    for at in range(start + 2, min(start + 2 + 12 * n_entries, len(tiff) - 11), 12):
        (tag,) = struct.unpack_from(f"{order}H", tiff, at)
        yield tag, order, tiff[at + 2 : at + 12]
