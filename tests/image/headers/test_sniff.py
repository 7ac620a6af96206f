"""Formats are recognised by content."""

from __future__ import annotations

from pathlib import Path

import pytest

from hifidata.image.headers.sniff import DECODABLE, sniff
from tests.factories.images import saved, scene


@pytest.mark.parametrize("kind", DECODABLE)
def test_every_decodable_format_is_recognised_from_its_content(kind: str) -> None:
    assert sniff(saved(scene(), kind.upper())) == kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"II*\x00" + bytes(20), "tiff"),
        (b"MM\x00*" + bytes(20), "tiff"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "heic"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1avif", "avif"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", None),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(20), "jp2"),
        (b"\x00\x00\x01\x00\x01\x00" + bytes(20), "ico"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "eps"),
        (b"%PDF-1.7", "pdf"),
        (b"8BPS\x00\x01", "psd"),
        (b'<?xml version="1.0"?>\n<!-- logo -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "svg"),
        (b"\xef\xbb\xbf  <SVG/>", "svg"),
        (b"\n<!DOCTYPE html><html><svg/></html>", "html"),
        (b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"/>', "html"),
        (b"BM, the two letters that start a bitmap", None),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", None),
        (b"test\n", None),
        (b"", None),
    ],
)
def test_other_content_is_named(data: bytes, kind: str | None) -> None:
    assert sniff(data) == kind


def test_names_and_extensions_play_no_part(assets: Path) -> None:
    lies = {
        "inspireface/RD__d1.jpeg": "webp",
        "inspireface/bulk__kun.jpg": "png",
        "formats-compreface/empty.png": None,
        "formats-compreface/einstein.ico": "ico",
        "formats-pillow/pillow3.icns": "icns",
        "formats-pillow/zero_height.j2k": "jp2",
    }
    assert {name: sniff((assets / "edge" / name).read_bytes()) for name in lies} == lies
