"""Formats, orientation, frames and limits."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from hifidata.core.errors import IntakeError
from hifidata.core.reasons import Reason
from hifidata.image.decode import Limits, decode
from hifidata.image.headers.sniff import DECODABLE
from tests.factories.images import ANY_SIZE, exif_with, png_chunk, png_header, png_with, saved, scene, stored_for

ORIENTED = ["jpeg", "png", "webp", "avif"]
MULTI = {"GIF": {}, "PNG": {}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}, "MPO": {"quality": 95}}


def xmp_with(orientation: int) -> bytes:
    return f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()


def multi(kind: str, n_frames: int = 3, **options: object) -> bytes:
    frames = [Image.fromarray(np.roll(scene(), 40 * at, axis=1)) for at in range(n_frames)]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], **MULTI[kind], **options)


def refused(data: bytes, limits: Limits = ANY_SIZE) -> Reason:
    with pytest.raises(IntakeError) as caught:
        decode(data, limits)
    assert caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.reason


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b).mean())


@pytest.mark.parametrize("kind", DECODABLE)
def test_each_format_decodes_to_its_pixels(kind: str) -> None:
    picture = decode(saved(scene(), kind.upper()), Limits())
    assert (picture.format, picture.exif_orientation, picture.n_frames) == (kind, 1, 1)
    assert picture.rgb_u8.dtype == np.uint8
    assert picture.rgb_u8.flags.c_contiguous
    assert picture.rgb_u8.flags.writeable
    assert mean_difference(picture.rgb_u8, scene()) < 5


def test_photos_have_exactly_the_pixels_that_pillow_decodes(assets: Path) -> None:
    compared = 0
    for path in sorted((assets / "faces" / "sports-raw").glob("*/*"))[::4]:
        with Image.open(path) as reference:
            if reference.format == "JPEG" and reference.mode == "RGB" and "icc_profile" not in reference.info:
                expected = np.asarray(ImageOps.exif_transpose(reference))
                np.testing.assert_array_equal(decode(path.read_bytes(), Limits()).rgb_u8, expected)
                compared += 1
    assert compared >= 15


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ORIENTED)
def test_exif_orientation_is_applied_exactly_once(kind: str, orientation: int) -> None:
    stored = stored_for(orientation, Image.fromarray(scene()))
    picture = decode(saved(stored, kind.upper(), exif=exif_with(orientation), quality=95), Limits())
    assert picture.exif_orientation == orientation
    assert (picture.height_px, picture.width_px) == picture.rgb_u8.shape[:2] == scene().shape[:2]
    assert mean_difference(picture.rgb_u8, scene()) < 3


@pytest.mark.parametrize("place", ["jpeg", "png", "webp"])
def test_orientation_in_xmp_counts_where_exif_has_none(place: str) -> None:
    stored = stored_for(6, Image.fromarray(scene()))
    packet = png_chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x01\x00\x00\x00" + zlib.compress(xmp_with(6)))
    data = png_with(packet, stored) if place == "png" else saved(stored, place.upper(), xmp=xmp_with(6), quality=95)
    picture = decode(data, Limits())
    assert picture.exif_orientation == 6
    assert mean_difference(picture.rgb_u8, scene()) < 3
    both = saved(Image.fromarray(scene()), "JPEG", xmp=xmp_with(6), exif=exif_with(1))
    assert decode(both, Limits()).exif_orientation == 1


@pytest.mark.parametrize(
    "exif",
    [exif_with(0), exif_with(9), exif_with(6)[:20], b"Exif\x00\x00MM\x00*\xff\xff\xff\xff", b"x"],
    ids=["zero", "nine", "cut", "far away", "letter"],
)
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_invalid_exif_changes_nothing_and_raises_no_warning(kind: str, exif: bytes) -> None:
    data = saved(scene(), kind.upper(), exif=exif)
    assert decode(data, Limits()).exif_orientation == 1


def test_avif_with_a_damaged_exif_entry_decodes_without_a_warning() -> None:
    data = saved(scene(), "AVIF", exif=exif_with(1))
    first_entry = data.index(b"MM\x00*") + 10
    damaged = data[: first_entry + 2] + struct.pack(">HI", 2, 2**24) + data[first_entry + 8 :]
    with pytest.warns(UserWarning, match="."):  # Pillow words it differently from version to version
        Image.open(BytesIO(damaged))
    assert decode(damaged, Limits()).exif_orientation == 1


@pytest.mark.parametrize("scene_name", ["Landscape", "Portrait"])
def test_one_scene_in_all_orientations_gives_one_picture(assets: Path, scene_name: str) -> None:
    folder = assets / "edge" / "exif-orientation"
    upright = decode((folder / f"{scene_name}_1.jpg").read_bytes(), Limits()).rgb_u8
    for orientation in range(9):  # 0 is no orientation; each file has its own number drawn into it
        picture = decode((folder / f"{scene_name}_{orientation}.jpg").read_bytes(), Limits())
        assert picture.exif_orientation == max(1, orientation)
        assert mean_difference(picture.rgb_u8, upright) < 5


def test_orientation_agrees_with_pillow_on_awkward_files(assets: Path) -> None:
    names = ["exif_imagemagick_orientation.png", "xmp_tags_orientation.png", "flower2.webp", "avif__rot3mir1.avif"]
    names += [f"hopper_orientation_{orientation}.jpg" for orientation in (2, 4, 6, 7)]
    for name in names:
        path = assets / "edge" / "formats-pillow" / name
        with Image.open(path) as reference:
            expected = np.asarray(ImageOps.exif_transpose(reference).convert("RGB"))
            has_profile = "icc_profile" in reference.info
        tolerance = 30 if has_profile else 0
        assert mean_difference(decode(path.read_bytes(), Limits()).rgb_u8, expected) <= tolerance, name


def test_avif_with_own_rotation_shows_the_same_scene_as_one_without(assets: Path) -> None:
    folder = assets / "edge" / "formats-pillow"
    plain, turned = (
        decode((folder / name).read_bytes(), Limits()) for name in ("avif__rot0mir0.avif", "avif__rot3mir1.avif")
    )
    assert (plain.exif_orientation, turned.exif_orientation) == (4, 5)
    assert (
        mean_difference(plain.rgb_u8, turned.rgb_u8) < 12
    )  # their captions differ; mirrored it would be 39, upside down 81


@pytest.mark.parametrize("kind", MULTI)
def test_first_frame_is_used_or_the_file_dropped_by_rule(kind: str) -> None:
    picture = decode(multi(kind), Limits())
    assert picture.n_frames == 3
    assert mean_difference(picture.rgb_u8, scene()) < 5
    assert refused(multi(kind), Limits(animated="drop")) == "animated"
    assert decode(saved(scene(), "JPEG" if kind == "MPO" else kind), Limits(animated="drop")).n_frames == 1


def test_previews_and_gain_maps_do_not_make_a_photo_multi_picture() -> None:
    stereo = multi("MPO", 2)
    tiff = stereo.index(b"MPF\x00") + 4
    entries = stereo.index(struct.pack("<HHI", 0xB002, 7, 32), tiff)
    second_entry = tiff + struct.unpack_from("<I", stereo, entries + 8)[0] + 16
    preview = stereo[:second_entry] + struct.pack("<I", 0x010001) + stereo[second_entry + 4 :]
    gain_map = multi("MPO", 2, xmp=b'<rdf:Description hdrgm:Version="1.0"/>')
    assert [decode(data, Limits()).n_frames for data in (stereo, preview, gain_map)] == [2, 1, 1]


def test_gif_frame_outside_its_canvas_enlarges_the_canvas() -> None:
    gif = bytearray(saved(Image.fromarray(scene()).convert("P"), "GIF"))
    gif[6:10] = struct.pack("<HH", 100, 50)
    assert decode(bytes(gif), Limits()).rgb_u8.shape == (96, 128, 3)
    assert refused(bytes(gif), Limits(max_pixels=100 * 60)) == "too_many_pixels"


@pytest.mark.parametrize(
    ("data", "limits", "reason"),
    [
        (b"", Limits(), "empty_file"),
        (saved(scene(), "BMP"), Limits(max_bytes=1000), "too_many_bytes"),
        (b"<html>image removed</html>", Limits(), "not_image"),
        (b"\x00" * 5000, Limits(), "not_image"),
        (saved(scene(), "TIFF"), Limits(), "format_not_allowed"),
        (saved(scene(), "WEBP"), Limits(formats=("jpeg", "png")), "format_not_allowed"),
        (saved(scene(), "PNG"), Limits(max_pixels=128 * 96 - 1), "too_many_pixels"),
        (saved(scene(1, 1), "PNG"), Limits(), "too_small"),
        (saved(scene(63, 500), "JPEG"), Limits(), "too_small"),
        (saved(scene(1, 20000), "PNG"), Limits(), "too_small"),
        (saved(scene(1, 20000), "PNG"), Limits(min_side_px=1), "bad_aspect"),
        (saved(scene(64, 513), "PNG"), Limits(), "bad_aspect"),
        (png_header(0, 100) + png_chunk(b"IEND", b""), Limits(min_side_px=0), "corrupt"),
        (saved(scene(), "PNG")[:20], Limits(), "truncated"),
        (saved(scene(), "JPEG")[:-200], Limits(), "truncated"),
        (saved(scene(), "PNG")[:-200], Limits(), "truncated"),
        (saved(scene(), "WEBP")[:-200], Limits(), "truncated"),
        (saved(scene(), "GIF")[:-200], Limits(), "truncated"),
        (saved(scene(), "BMP")[:-200], Limits(), "truncated"),
        (saved(scene(), "AVIF")[:-200], Limits(), "truncated"),
        (png_header(100, 100) + png_chunk(b"IDAT", b"no zlib") + png_chunk(b"IEND", b""), Limits(), "corrupt"),
    ],
)
def test_each_cause_of_refusal_has_its_reason(data: bytes, limits: Limits, reason: Reason) -> None:
    assert refused(data, limits) == reason


def test_limits_include_their_own_value() -> None:
    picture = saved(scene(64, 512), "PNG")
    exact = Limits(max_bytes=len(picture), max_pixels=64 * 512, min_side_px=64, max_aspect=8.0)
    assert decode(picture, exact).rgb_u8.shape == (64, 512, 3)


def test_truncated_stays_truncated_when_another_package_switched_pillow_to_lenient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for kind in ("JPEG", "PNG", "WEBP", "GIF"):
        data = saved(scene(), kind)
        assert refused(data[: len(data) // 2]) == "truncated"
        assert mean_difference(decode(data, Limits()).rgb_u8, scene()) < 5


def test_same_bytes_give_same_pixels(assets: Path) -> None:
    for name in ("flower2.webp", "avif__exif.avif", "icc_profile_big.jpg", "einstein.gif", "transparent.png"):
        path = next((assets / "edge").glob(f"formats-*/{name}"))
        first, second = (decode(path.read_bytes(), Limits()).rgb_u8 for _ in range(2))
        np.testing.assert_array_equal(first, second)
