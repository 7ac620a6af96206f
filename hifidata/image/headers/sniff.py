"""Recognise the format of a file by its first bytes. Names and extensions are not used."""

from __future__ import annotations

DECODABLE = ("jpeg", "png", "webp", "bmp", "gif", "avif")

NO_PICTURE = ("html", "pdf")
"""Formats of documents, recognised only for the message."""

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),  # also MPO: a JPEG followed by further JPEGs
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
    (b"\x00\x00\x01\x00", "ico"),
    (b"icns", "icns"),
    (b"%!PS", "eps"),
    (b"\xc5\xd0\xd3\xc6", "eps"),
    (b"%PDF-", "pdf"),
    (b"8BPS", "psd"),
)
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_BMP_HEADER_BYTES = {12, 40, 52, 56, 64, 108, 124}
_HTML_OPENINGS = (b"<!doctype html", b"<html", b"<head", b"<body")


def sniff(data: bytes) -> str | None:
    """Name the format of a file's content.

    Args:
        data: the file, or at least its first 4 KiB.

    Returns:
        One of ``DECODABLE``, or None. ``tiff, heic, jp2, ico, icns, svg, eps, pdf, html, psd`` are recognised only for
        the message.
    """
    for signature, image_format in _SIGNATURES:
        if data.startswith(signature):
            return image_format
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES:
        return "bmp"
    if data[4:8] == b"ftyp":
        return _format_of_brands(data)
    return _format_of_markup(data)


def _format_of_brands(data: bytes) -> str | None:
    """Name an ISO media file by all its brands, because the major brand of AVIF and HEIC may be ``mif1`` in both."""
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
    if brands & {b"avif", b"avis"}:
        return "avif"
    return "heic" if brands & _HEIC_BRANDS else None


def _format_of_markup(data: bytes) -> str | None:
    text = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text.startswith(b"<"):
        return None
    if text.startswith(_HTML_OPENINGS):
        return "html"
    return "svg" if b"<svg" in text else "html" if b"<html" in text else None
