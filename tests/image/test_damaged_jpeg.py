"""JPEGs with damaged coded data are refused, because decoders invent pixels for them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hifidata.core.errors import IntakeError
from hifidata.image.decode import Limits, decode
from tests.factories.images import icc_with_red_and_green_swapped, saved, scene

PICTURES = {
    "plain": saved(scene(240, 320), "JPEG", quality=90),
    "grey": saved(Image.fromarray(scene(240, 320)).convert("L"), "JPEG", quality=90),
    "progressive": saved(scene(240, 320), "JPEG", quality=90, progressive=True),
    "CMYK": saved(Image.fromarray(scene(240, 320)).convert("CMYK"), "JPEG", quality=90),
    "other colours": saved(scene(240, 320), "JPEG", quality=90, icc_profile=icc_with_red_and_green_swapped()),
}


def scan_of(jpeg: bytes) -> int:
    """Offset of the coded data of the last scan."""
    start = jpeg.rindex(b"\xff\xda")
    return start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")


def overwritten(jpeg: bytes) -> bytes:
    """Replace a tenth of the last scan by noise without marker bytes."""
    start = scan_of(jpeg)
    length = (len(jpeg) - start) // 10
    middle = start + 4 * length
    noise = np.random.default_rng(0).integers(0, 255, length, np.uint8).tobytes()
    return jpeg[:middle] + noise + jpeg[middle + length :]


@pytest.mark.parametrize("name", PICTURES)
def test_noise_in_the_coded_data_is_corrupt(name: str) -> None:
    assert decode(PICTURES[name], Limits()).width_px == 320
    with pytest.raises(IntakeError, match=r"Corrupt JPEG data: .*; fetch it again or drop it") as caught:
        decode(overwritten(PICTURES[name]), Limits())
    assert caught.value.reason == "corrupt"


def test_a_broken_table_after_damaged_data_is_corrupt_and_shows_no_uninitialised_memory() -> None:
    jpeg = PICTURES["progressive"]
    first_scan, last_table = jpeg.index(b"\xff\xda") + 40, jpeg.rindex(b"\xff\xc4") + 5
    broken = (
        jpeg[:first_scan] + b"\xfe" * 200 + jpeg[first_scan + 200 : last_table] + b"\xff" * 16 + jpeg[last_table + 16 :]
    )
    with pytest.raises(IntakeError) as caught:
        decode(broken, Limits())
    assert caught.value.reason == "corrupt"


@pytest.mark.parametrize("name", PICTURES)
def test_bytes_between_the_last_pixel_and_the_end_marker_do_no_harm(name: str) -> None:
    jpeg = PICTURES[name]
    assert jpeg.endswith(b"\xff\xd9")
    found = decode(jpeg[:-2] + bytes(40) + jpeg[-2:], Limits())
    assert np.array_equal(found.rgb_u8, decode(jpeg, Limits()).rgb_u8)
