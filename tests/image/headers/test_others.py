"""PNG, GIF and WebP: damaged metadata does not cost the image, and hostile metadata costs little time."""

from __future__ import annotations

import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from hifidata.core.errors import IntakeError
from hifidata.core.reasons import Reason
from hifidata.image.decode import Limits, decode
from tests.factories.images import exif_with, png_chunk, png_with, saved, scene

XMP_3 = b'<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
ZEROS = zlib.compress(bytes(4 * 2**20), 9)
DAMAGED_ZEROS = zlib.compress(bytes(4 * 2**20 - 2**16), 9)[:-6] + b"\xff" * 8
INFLATING = {
    "profile": png_chunk(b"iCCP", b"x\x00\x00" + ZEROS),
    "damaged profile": png_chunk(b"iCCP", b"x\x00\x00" + DAMAGED_ZEROS),
    "XMP as zTXt": png_chunk(b"zTXt", b"XML:com.adobe.xmp\x00\x00" + ZEROS),
    "XMP as iTXt": png_chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x01\x00\x00\x00" + ZEROS),
    "EXIF as zTXt": png_chunk(b"zTXt", b"Raw profile type exif\x00\x00" + ZEROS),
    "another text": png_chunk(b"zTXt", b"Comment\x00\x00" + ZEROS),
}


def outcome(data: bytes) -> Reason | int:
    """The reason, or the number of frames."""
    try:
        return decode(data, Limits()).n_frames
    except IntakeError as error:
        return error.reason


def decoding_cpu_s(data: bytes) -> float:
    started_s = time.process_time()
    outcome(data)
    return time.process_time() - started_s


@pytest.fixture(scope="module")
def ordinary_cpu_s() -> float:
    """Of an image of 6 million pixels."""
    data = saved(scene(2000, 3000), "PNG", compress_level=1)
    return min(decoding_cpu_s(data) for _ in range(3))


@pytest.mark.parametrize("name", INFLATING)
def test_31_mib_of_inflating_chunks_cost_no_more_than_some_ordinary_images(name: str, ordinary_cpu_s: float) -> None:
    """Each of the nearly 8,000 chunks would inflate to 4 MiB: five hundred times the ordinary image's time."""
    hostile = png_with(INFLATING[name] * (31 * 2**20 // len(INFLATING[name])), scene())
    assert decoding_cpu_s(hostile) < 10 * ordinary_cpu_s
    assert outcome(hostile) == (1 if name == "another text" else "corrupt")


def test_a_png_may_repeat_its_metadata_sixteen_times() -> None:
    packet = png_chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + XMP_3)
    assert decode(png_with(packet * 16, scene()), Limits()).exif_orientation == 3
    assert outcome(png_with(packet * 17, scene())) == "corrupt"


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"iCCP", b"x\x00\x00no zlib"),
        png_chunk(b"iCCP", b"x\x00\x07" + zlib.compress(b"unknown method")),
        png_chunk(b"zTXt", b"XML:com.adobe.xmp\x00\x00" + zlib.compress(XMP_3)[:20]),
        png_chunk(b"zTXt", b"Comment\x00\x05unknown method"),
        png_chunk(b"tEXt", b"Raw profile type exif\x00\nexif\n  4\nno hex"),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp"),
        png_chunk(b"tEXt", b"Comment\x00good")[:-4] + b"crc?",
        png_chunk(b"gAMA", b"x"),
        png_chunk(b"acTL", struct.pack(">II", 0, 0)),
        png_chunk(b"acTL", b""),
        png_chunk(b"eXIf", b"MM"),
    ],
)
def test_damaged_metadata_of_a_png_do_not_cost_the_image(chunk: bytes) -> None:
    image = decode(png_with(chunk, scene()), Limits())
    assert (image.exif_orientation, image.n_frames) == (1, 1)
    np.testing.assert_array_equal(image.rgb_u8, scene())


def test_metadata_after_the_pixels_of_a_png_count() -> None:
    plain = saved(scene(), "PNG")
    data = plain[:-12] + png_chunk(b"eXIf", exif_with(3).removeprefix(b"Exif\x00\x00")) + plain[-12:]
    assert decode(data, Limits()).exif_orientation == 3


def test_frames_of_a_png_are_counted_not_read_from_its_header() -> None:
    frames = [Image.fromarray(np.roll(scene(), 30 * at, axis=0)) for at in range(3)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    announced = data.index(b"acTL") + 4
    boast = png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    assert outcome(data[: announced - 8] + boast + data[announced + 12 :]) == 3


def test_a_palette_png_without_a_palette_is_corrupt() -> None:
    data = saved(Image.fromarray(scene()).convert("P"), "PNG")
    palette = data.index(b"PLTE") - 4
    length = 12 + int.from_bytes(data[palette : palette + 4], "big")
    assert outcome(data[:palette] + data[palette + length :]) == "corrupt"


def test_a_gif_that_ends_before_its_first_frame_is_truncated() -> None:
    data = saved(Image.fromarray(scene()).convert("P"), "GIF")
    for length in range(6, data.index(b",", 13 + 3 * 256) + 40, 9):
        assert outcome(data[:length]) == "truncated"


def test_an_avif_is_turned_by_its_own_properties_not_by_its_xmp() -> None:
    assert decode(saved(scene(), "AVIF", xmp=XMP_3), Limits()).exif_orientation == 1
