"""Reads values out of foreign JSON: whatever lies there, what comes out has the type it should have, or is None."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

MAX_TEXT_CHARS = 200
MAX_URL_CHARS = 2048
PICTURE_TYPES = frozenset(f"image/{kind}" for kind in ("jpeg", "jpg", "png", "webp", "gif", "bmp", "avif"))
_JOINERS = "\u200c\u200d"  # not printable by Unicode's book, but parts of Persian and Indic names
_URL = re.compile(r"https?://[^\s/?#\\]+[^\s\\]*", re.IGNORECASE)


def mapping(value: Any) -> Mapping[str, Any]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def one_line(value: str) -> str:
    """The text with single spaces, and none but printable characters."""
    kept = (character if character.isprintable() or character in _JOINERS else " " for character in value)
    return " ".join("".join(kept).split())


def text(value: Any, max_chars: int = MAX_TEXT_CHARS) -> str | None:
    """One printable line of at most ``max_chars`` characters; longer text ends in an ellipsis."""
    if not isinstance(value, str):
        return None
    line = one_line(value)
    if len(line) > max_chars:
        line = line[: max_chars - 1].rstrip() + "…"
    return line or None


def web_url(value: Any) -> str | None:
    """An http(s) URL without its fragment; whether it can be fetched is for the fetcher to judge."""
    if not isinstance(value, str):
        return None
    url = value.strip().partition("#")[0]
    return url if len(url) <= MAX_URL_CHARS and url.isprintable() and _URL.fullmatch(url) else None


def is_picture_type(mime: Any) -> bool:
    """Whether the stated type is one that intake can decode; a type that is not stated may be any."""
    kind = mime.strip().lower() if isinstance(mime, str) else ""
    return kind in PICTURE_TYPES or kind in ("", "image/")


def without_tags(value: Any) -> str | None:
    """The text of a piece of HTML, as ``text`` returns it."""
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
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in ("script", "style")
        if tag in ("br", "div", "li", "p", "td"):
            self.pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in ("script", "style") and self._unseen > 0

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.pieces.append(data)
