"""Copies have near hashes, other images have far ones, and the bits equal those of the reference package."""

from __future__ import annotations

from pathlib import Path

import cv2
import imagehash
import numpy as np
from PIL import Image

from hifidata.image.decode import Limits, decode
from hifidata.image.encode import encode_jpeg
from hifidata.image.phash import distance_bits, hex16, phash64
from tests.factories.images import scene

MAX_DISAGREEMENT_BITS = 1  # none seen; room for another rounding of a coefficient that ties with the median


def photos(assets: Path) -> list[np.ndarray]:
    paths = (
        sorted((assets / "faces" / "sports-raw").glob("*/*"))[::6]
        + sorted((assets / "faces" / "dlib-johns").glob("*/*"))[::9]
    )
    return [decode(path.read_bytes(), Limits()).rgb_u8 for path in paths if path.suffix in (".jpg", ".png")]


def test_bits_equal_those_of_imagehash(assets: Path) -> None:
    pictures = photos(assets)
    assert len(pictures) >= 20
    for rgb_u8 in pictures:
        reference = str(imagehash.phash(Image.fromarray(rgb_u8)))
        assert distance_bits(hex16(phash64(rgb_u8)), reference) <= MAX_DISAGREEMENT_BITS


def test_rescaled_and_recompressed_copies_stay_near_and_other_photos_far(assets: Path) -> None:
    pictures = [cv2.resize(rgb_u8, (512, 512), interpolation=cv2.INTER_AREA) for rgb_u8 in photos(assets)]
    hashes = [hex16(phash64(rgb_u8)) for rgb_u8 in pictures]
    for rgb_u8, own in zip(pictures, hashes, strict=True):
        copy = decode(encode_jpeg(cv2.resize(rgb_u8, (200, 200), interpolation=cv2.INTER_AREA), 60), Limits()).rgb_u8
        assert distance_bits(hex16(phash64(copy)), own) <= 6
    others = [distance_bits(a, b) for at, a in enumerate(hashes) for b in hashes[:at]]
    assert np.median(others) > 24


def test_flat_images_of_any_size_and_shade_have_one_hash() -> None:
    flat = {phash64(np.full((side_px, side_px, 3), grey, np.uint8)) for side_px in (40, 333) for grey in (3, 128, 250)}
    assert len(flat) == 1


def test_hash_is_sixteen_hex_digits_and_distances_count_bits() -> None:
    assert hex16(0x1F) == "000000000000001f"
    assert len(hex16(phash64(scene()))) == 16
    assert distance_bits("000000000000001f", "0000000000000000") == 5
    assert distance_bits(hex16(2**64 - 1), hex16(0)) == 64
