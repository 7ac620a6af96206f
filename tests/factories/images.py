"""Synthetic images, colour profiles and parts of files."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from hifidata.image.decode import Limits

ANY_SIZE = Limits(min_side_px=1, max_aspect=1e9)

Rgb = NDArray[np.uint8]


def scene(height_px: int = 96, width_px: int = 128) -> Rgb:
    """Return a smooth image without symmetry: a wrong orientation differs from it more than a lossy codec does."""
    y, x = np.mgrid[0:height_px, 0:width_px] / max(height_px, width_px)
    channels = 40 + 200 * x, 220 - 180 * y, 128 + 100 * np.sin(5 * x + 2 * y)
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


def saved(picture: Image.Image | Rgb, kind: str, **options: Any) -> bytes:
    """Return the bytes of a file as Pillow writes it."""
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def exif_with(orientation: int) -> bytes:
    """Return an EXIF block with this orientation and a GPS position."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return exif.tobytes()


def stored_for(orientation: int, upright: Image.Image) -> Image.Image:
    """Return the image as a camera stores it for an orientation tag: the inverse of the tag's operation."""
    turn = Image.Transpose
    inverse = {
        2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE, 6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270,
    }  # fmt: skip
    return upright.transpose(inverse[orientation]) if orientation in inverse else upright


def png_chunk(name: bytes, body: bytes) -> bytes:
    """Return a PNG chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_header(width_px: int, height_px: int) -> bytes:
    """Return the signature and IHDR of an 8-bit greyscale PNG."""
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, 8, 0, 0, 0, 0))


def png_with(chunks: bytes, picture: Image.Image | Rgb) -> bytes:
    """Return a PNG with further chunks after its IHDR."""
    plain = saved(picture, "PNG")
    return plain[:33] + chunks + plain[33:]


def icc_profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return an ICC 2.4 profile; ``space`` is ``RGB ``, ``GRAY`` or ``CMYK``."""
    pcs, kind = (b"Lab ", b"prtr") if space == b"CMYK" else (b"XYZ ", b"mntr")
    tags = {b"wtpt": icc_xyz(0.9642, 1.0, 0.8249), b"desc": _icc_description(), **tags}
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">4sI4s4s4s12x4s28x", b"none", 0x02400000, kind, space, pcs, b"acsp")
    head += struct.pack(">III", 63190, 65536, 54061)  # D50, the illuminant of the connection space
    total = 128 + len(table) + len(body)
    return struct.pack(">I", total) + head.ljust(124, b"\x00") + table + body


def icc_xyz(x: float, y: float, z: float) -> bytes:
    """Return an XYZ tag."""
    return struct.pack(">4s4xiii", b"XYZ ", *(round(value * 65536) for value in (x, y, z)))


def icc_gamma(gamma: float) -> bytes:
    """Return a tone curve tag."""
    return struct.pack(">4s4xIH", b"curv", 1, round(gamma * 256))


def icc_with_red_and_green_swapped() -> bytes:
    """Return a profile with exchanged red and green primaries of sRGB and gamma 2.2."""
    primaries = {
        b"gXYZ": (0.4361, 0.2225, 0.0139),
        b"rXYZ": (0.3851, 0.7169, 0.0971),
        b"bXYZ": (0.1431, 0.0606, 0.7141),
    }
    curves = {name: icc_gamma(2.2) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return icc_profile(b"RGB ", {**{name: icc_xyz(*xyz) for name, xyz in primaries.items()}, **curves})


def icc_of_a_grey_press() -> bytes:
    """Return a CMYK profile with colourless inks: L* is 100 times the product of (1 - ink)."""
    levels = np.arange(256, dtype=np.uint8).tobytes()
    c, m, y, k = np.mgrid[0:2, 0:2, 0:2, 0:2]
    lightness = (255 * (1 - c) * (1 - m) * (1 - y) * (1 - k)).astype(np.uint8)
    grid = np.stack([lightness, np.full_like(lightness, 128), np.full_like(lightness, 128)], axis=-1).tobytes()
    identity = struct.pack(">9i", *(65536 if at % 4 == 0 else 0 for at in range(9)))
    lut8 = struct.pack(">4s4xBBBx", b"mft1", 4, 3, 2) + identity + levels * 4 + grid + levels * 3
    return icc_profile(b"CMYK", {b"A2B0": lut8})


def _icc_description() -> bytes:
    return struct.pack(">4s4xI", b"desc", 5) + b"made\x00" + bytes(78)
