"""Read values from untrusted JSON: each function returns the expected type or None."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

MAX_TEXT_CHARS = 200
MAX_URL_CHARS = 2048
IMAGE_TYPES = frozenset(f"image/{kind}" for kind in ("jpeg", "jpg", "png", "webp", "gif", "bmp", "avif"))
_JOINERS = "\u200c\u200d"  # not printable according to Unicode, but parts of Persian and Indic names
_URL = re.compile(r"https?://[^\s/?#\\]+[^\s\\]*", re.IGNORECASE)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return the object, or an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects in a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def one_line(value: str) -> str:
    """Return the text with single spaces and only printable characters."""
    kept = (character if character.isprintable() or character in _JOINERS else " " for character in value)
    return " ".join("".join(kept).split())


def text(value: Any, max_chars: int = MAX_TEXT_CHARS) -> str | None:
    """Return one printable line of at most ``max_chars`` characters; longer text ends in an ellipsis."""
    if not isinstance(value, str):
        return None
    line = one_line(value)
    if len(line) > max_chars:
        line = line[: max_chars - 1].rstrip() + "…"
    return line or None


def web_url(value: Any) -> str | None:
    """Return an http(s) URL without its fragment; the fetcher checks it further."""
    if not isinstance(value, str):
        return None
    url = value.strip().partition("#")[0]
    return url if len(url) <= MAX_URL_CHARS and url.isprintable() and _URL.fullmatch(url) else None


def is_image_type(mime: Any) -> bool:
    """Return whether intake can decode the stated type; a missing type is accepted."""
    kind = mime.strip().lower() if isinstance(mime, str) else ""
    return kind in IMAGE_TYPES or kind in ("", "image/")


def without_tags(value: Any) -> str | None:
    """Return the text of an HTML fragment, as ``text`` does."""
    if not isinstance(value, str):
        return None
    reader = _TextOnly()
    reader.feed(value[:20_000])
    reader.close()
    return text("".join(reader.pieces))


class _TextOnly(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._hidden_depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden_depth += tag in ("script", "style")
        if tag in ("br", "div", "li", "p", "td"):
            self.pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._hidden_depth -= tag in ("script", "style") and self._hidden_depth > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden_depth:
            self.pieces.append(data)
