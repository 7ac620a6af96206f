"""Every colour mode is converted to sRGB."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from hifidata.image.colour import is_srgb
from hifidata.image.decode import Limits, decode
from tests.factories.images import (
    Rgb,
    icc_gamma,
    icc_of_a_grey_press,
    icc_profile,
    icc_with_red_and_green_swapped,
    saved,
    scene,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def flat(colour: tuple[int, ...] | int, mode: str) -> Image.Image:
    return Image.new(mode, (80, 80), colour)


def centre_of(data: bytes) -> list[int]:
    rgb_u8 = decode(data, Limits()).rgb_u8
    return rgb_u8[rgb_u8.shape[0] // 2, rgb_u8.shape[1] // 2].tolist()


def close(a: Rgb, b: Rgb, tolerance: float) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(int) - b).max()) <= tolerance


@pytest.mark.parametrize(
    ("ink", "rgb"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 0, 0), (255, 0, 255)),
        ((0, 0, 255, 0), (255, 255, 0)),
        ((51, 102, 153, 51), (163, 122, 82)),
    ],
)
def test_cmyk_is_neither_inverted_nor_swapped(ink: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    data = saved(flat(ink, "CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    assert decode(data, Limits()).mode == "CMYK"
    np.testing.assert_allclose(centre_of(data), rgb, atol=3)


def test_ycck_photo_has_its_colours(assets: Path) -> None:
    path = assets / "edge" / "formats-pillow" / "pil_sample_cmyk.jpg"
    with Image.open(path) as stored:
        assert stored.info["adobe_transform"] == 2
        ink = np.asarray(stored).astype(float) / 255
    reference = 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])
    picture = decode(path.read_bytes(), Limits())
    assert np.abs(picture.rgb_u8 - reference).max() <= 1.5
    red, green, blue = picture.rgb_u8.reshape(-1, 3).max(axis=0).tolist()
    assert red > 200 > 100 > max(green, blue)  # the picture shows the word RED in red on black
    assert np.median(picture.rgb_u8) < 20


def test_cmyk_profile_decides_what_its_inks_look_like() -> None:
    profile = icc_of_a_grey_press()
    paper, black, cyan = ((0, 0, 0, 0), (0, 0, 0, 255), (255, 0, 0, 0))
    seen = [
        centre_of(saved(flat(ink, "CMYK"), "JPEG", quality=95, icc_profile=profile)) for ink in (paper, black, cyan)
    ]
    np.testing.assert_allclose(seen, [[255] * 3, [0] * 3, [0] * 3], atol=4)


def test_rgb_profile_is_applied_in_every_format_that_carries_one() -> None:
    profile = icc_with_red_and_green_swapped()
    for kind in ("JPEG", "PNG", "WEBP", "AVIF"):
        data = saved(flat((220, 30, 60), "RGB"), kind, quality=95, icc_profile=profile)
        np.testing.assert_allclose(centre_of(data), (30, 220, 60), atol=9)


def test_profile_holds_for_pixels_under_transparency_but_not_for_the_white_behind() -> None:
    half = flat((220, 30, 60, 128), "RGBA")
    data = saved(half, "PNG", icc_profile=icc_with_red_and_green_swapped())
    np.testing.assert_allclose(centre_of(data), (142, 237, 157), atol=4)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_profile_is_applied_to_grey_pictures(mode: str) -> None:
    profile = icc_profile(b"GRAY", {b"kTRC": icc_gamma(1.0)})
    colour = {"L": 55, "LA": (55, 255), "I;16": 55 * 257}[mode]
    expected = round(255 * (1.055 * (55 / 255) ** (1 / 2.4) - 0.055))  # linear light to sRGB
    np.testing.assert_allclose(centre_of(saved(flat(colour, mode), "PNG", icc_profile=profile)), [expected] * 3, atol=2)


@pytest.mark.parametrize(
    "profile",
    [b"no profile", SRGB[:200], SRGB[:60] + b"\xff" * 80 + SRGB[140:], icc_of_a_grey_press(), icc_profile(b"GRAY", {})],
    ids=["junk", "cut", "damaged", "for other pixels", "incomplete"],
)
def test_unusable_profile_counts_as_none(profile: bytes) -> None:
    with_profile = decode(saved(scene(), "JPEG", icc_profile=profile), Limits()).rgb_u8
    np.testing.assert_array_equal(with_profile, decode(saved(scene(), "JPEG"), Limits()).rgb_u8)


def test_srgb_profile_changes_nothing_under_any_of_its_names(assets: Path) -> None:
    assert is_srgb(None)
    assert is_srgb(SRGB)
    assert not is_srgb(icc_with_red_and_green_swapped())
    seen = {}
    for name in ("human-samples/stock-emotions-a-1.jpg", "sports-raw/roger_federer/Federer_640.jpg"):
        with Image.open(assets / "faces" / name) as picture:
            profile = picture.info["icc_profile"]
        seen[ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(profile))).strip()] = is_srgb(profile)
    assert seen == {"c2": True, "Adobe RGB (1998)": False}


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.tile(np.linspace(0, 65535, 128).astype(np.uint16), (96, 1))
    grey = decode(saved(Image.fromarray(ramp), "PNG"), Limits())
    assert grey.mode.startswith("I")
    assert close(grey.rgb_u8, np.repeat(ramp[..., None] / 257, 3, axis=2), 0.51)
    bgr = (scene().astype(np.uint16) * 257)[..., ::-1]
    _, colour_png = cv2.imencode(".png", bgr)
    assert close(decode(colour_png.tobytes(), Limits()).rgb_u8, scene(), 1)


def test_transparency_is_blended_with_white() -> None:
    clear = flat((200, 100, 0, 255), "RGBA")
    clear.paste((200, 100, 0, 0), (20, 20, 60, 60))
    half = flat((200, 100, 0, 128), "RGBA")
    for kind in ("PNG", "WEBP"):
        assert centre_of(saved(clear, kind, lossless=True, exact=True)) == [255, 255, 255]
        np.testing.assert_allclose(centre_of(saved(half, kind, lossless=True)), [227, 177, 127], atol=1)
    np.testing.assert_allclose(centre_of(saved(flat((90, 128), "LA"), "PNG")), [172] * 3, atol=1)


def test_alpha_that_would_hide_everything_is_ignored() -> None:
    assert centre_of(saved(flat((10, 20, 30, 0), "RGBA"), "PNG")) == [10, 20, 30]


def test_palettes_keep_their_colours_and_their_transparency() -> None:
    picture = flat(0, "P")
    picture.putpalette([10, 200, 30, 250, 0, 0, 0, 0, 250])
    picture.paste(1, (20, 20, 60, 60))
    for kind in ("PNG", "GIF", "BMP"):
        assert centre_of(saved(picture, kind)) == [250, 0, 0]
    for transparency in (1, b"\xff\x00\xff"):
        assert centre_of(saved(picture, "PNG", transparency=transparency)) == [255, 255, 255]
    assert centre_of(saved(picture, "GIF", transparency=1)) == [255, 255, 255]
    assert decode(saved(picture, "PNG"), Limits()).rgb_u8[5, 5].tolist() == [10, 200, 30]


def test_bilevel_and_grey_come_out_as_three_equal_channels(assets: Path) -> None:
    assert centre_of(saved(flat(1, "1"), "PNG")) == [255, 255, 255]
    grey = decode((assets / "edge" / "formats-pillow" / "hopper_gray.jpg").read_bytes(), Limits())
    assert grey.mode == "L"
    assert (grey.rgb_u8 == grey.rgb_u8[..., :1]).all()
    assert grey.rgb_u8.std() > 30


def test_transparent_avif_shows_white_through_its_hole(assets: Path) -> None:
    assert centre_of((assets / "edge" / "formats-pillow" / "avif__transparency.avif").read_bytes()) == [255, 255, 255]
