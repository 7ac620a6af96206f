"""Written JPEGs hold pixels without metadata."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from hifidata.image.decode import Limits, decode
from hifidata.image.encode import encode_jpeg, thumbnail_jpeg
from tests.factories.images import exif_with, icc_with_red_and_green_swapped, saved, scene


def markers(jpeg: bytes) -> set[int]:
    found, at = set(), 2
    while jpeg[at + 1] != 0xDA:
        found.add(jpeg[at + 1])
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return found


def test_no_metadata_survives_from_file_to_file() -> None:
    source = saved(scene(), "JPEG", exif=exif_with(6), icc_profile=icc_with_red_and_green_swapped(), comment=b"at home")
    assert {0xE1, 0xE2, 0xFE} <= markers(source)
    for written in (
        encode_jpeg(decode(source, Limits()).rgb_u8, 95),
        thumbnail_jpeg(decode(source, Limits()).rgb_u8, 64),
    ):
        metadata = {marker for marker in markers(written) if 0xE0 <= marker <= 0xEF or marker == 0xFE}
        assert metadata == {0xE0}  # JFIF: version and density
        assert not Image.open(BytesIO(written)).getexif()


def test_same_pixels_give_same_bytes() -> None:
    assert encode_jpeg(scene(), 95) == encode_jpeg(scene().copy(), 95)
    assert thumbnail_jpeg(scene(), 50) == thumbnail_jpeg(scene().copy(), 50)


@pytest.mark.parametrize(("quality", "sampling"), [(75, 2), (89, 2), (90, 0), (95, 0), (100, 0)])
def test_colour_keeps_full_resolution_from_quality_90_on(quality: int, sampling: int) -> None:
    with Image.open(BytesIO(encode_jpeg(scene(), quality))) as written:
        assert isinstance(written, JpegImagePlugin.JpegImageFile)
        assert JpegImagePlugin.get_sampling(written) == sampling


def test_channels_keep_their_order() -> None:
    rgb_u8 = decode(encode_jpeg(scene(), 95), Limits()).rgb_u8
    assert np.abs(rgb_u8.astype(int) - scene()).max() <= 6


@pytest.mark.parametrize(
    ("shape", "longest_px", "size_wh"),
    [((300, 400), 100, (100, 75)), ((400, 300), 100, (75, 100)), ((60, 40), 100, (40, 60)), ((2, 4000), 160, (160, 1))],
)
def test_thumbnail_fits_and_never_grows(shape: tuple[int, int], longest_px: int, size_wh: tuple[int, int]) -> None:
    with Image.open(BytesIO(thumbnail_jpeg(scene(*shape), longest_px))) as written:
        assert written.size == size_wh


def test_gps_of_a_real_photo_is_gone(assets: Path) -> None:
    for path in sorted((assets / "edge" / "exif-orientation").glob("*_6.jpg")):
        assert not Image.open(BytesIO(encode_jpeg(decode(path.read_bytes(), Limits()).rgb_u8, 95))).getexif()
