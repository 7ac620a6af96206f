"""The sample of a candidate inside a worker, and the pixels that stages get from it."""

from __future__ import annotations

import numpy as np

from hifidata.image.decode import Limits, decode
from hifidata.image.encode import encode_jpeg
from hifidata.stages.base import Sample

CROP = {"crop_x1_px": 10, "crop_y1_px": 20, "crop_x2_px": 210, "crop_y2_px": 220, "crop_shift_px": 0}


def photo() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (240, 240, 3), np.uint8)
    return encode_jpeg(noise, 95)


def test_the_portrait_has_the_pixels_of_its_jpeg_before_and_after_a_replacement() -> None:
    sample = Sample(dict(CROP), photo, Limits(), 128, jpeg_quality=60)
    crop_u8 = sample.crop_u8
    seen = sample.portrait_u8
    assert sample.portrait_jpeg == encode_jpeg(crop_u8, 60)
    assert not np.array_equal(seen, crop_u8)
    assert np.array_equal(sample.shown_u8, crop_u8)
    sample.release(keep_encoded=False)
    assert np.array_equal(sample.portrait_u8, seen)

    sample.thumbnail = b"thumbnail of the old portrait"
    sample.replace_portrait(255 - crop_u8)
    assert sample.thumbnail is None
    assert sample.portrait_jpeg == encode_jpeg(255 - crop_u8, 60)
    replaced = decode(sample.portrait_jpeg, Limits()).rgb_u8
    assert np.array_equal(sample.portrait_u8, replaced)
    assert sample.has_pixels
    assert np.array_equal(sample.shown_u8, replaced)


def test_without_a_crop_the_thumbnail_shows_the_whole_image() -> None:
    sample = Sample({}, photo, Limits(), 128)
    assert not sample.has_pixels
    assert sample.shown_u8.shape == (240, 240, 3)
