"""Licences in one readable form, whichever way a provider states them."""

from __future__ import annotations

import re

_CC_URL = re.compile(
    r"https?://(?:www\.)?creativecommons\.org/(?:licenses|publicdomain)/([a-z0-9+-]+)(?:/(\d\.\d))?(?:/.*)?",
    re.IGNORECASE,
)
_OPEN = re.compile(r"(cc0|public domain|cc by(-sa)?)( |$)", re.IGNORECASE)


def of_code(code: str | None, version: str | None = None) -> str | None:
    """``by-sa`` and ``4.0`` become ``CC BY-SA 4.0``; ``cc0`` and ``pdm`` get their names, too."""
    if not code:
        return None
    code = code.lower()
    if code in ("cc0", "zero"):
        name = "CC0"
    elif code in ("pdm", "mark"):
        name = "Public Domain Mark"
    else:
        name = f"CC {code.upper()}"
    return f"{name} {version}" if version else name


def of_url(url: str | None) -> str | None:
    """A Creative Commons URL becomes the licence's name; of another page of terms, the URL is all there is to say."""
    match = _CC_URL.fullmatch(url or "")
    return of_code(match[1], match[2]) if match else url


def is_open(licence: str | None) -> bool:
    """Whether anybody may use and change the work for any purpose: CC0, public domain, CC BY, CC BY-SA.

    Source: the Open Definition 2.1; ``NC`` and ``ND`` licences do not meet it.
    """
    return bool(_OPEN.match(licence or ""))
