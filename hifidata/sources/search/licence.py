"""Convert the licences of all providers to one readable form."""

from __future__ import annotations

import re

_CC_URL = re.compile(
    r"https?://(?:www\.)?creativecommons\.org/(?:licenses|publicdomain)/([a-z0-9+-]+)(?:/(\d\.\d))?(?:/.*)?",
    re.IGNORECASE,
)
_OPEN = re.compile(r"(cc0|public domain|cc by(-sa)?)( |$)", re.IGNORECASE)


def from_code(code: str | None, version: str | None = None) -> str | None:
    """Return ``CC BY-SA 4.0`` for ``by-sa`` and ``4.0``; ``cc0`` and ``pdm`` get their names, too."""
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


def from_url(url: str | None) -> str | None:
    """Return the licence name of a Creative Commons URL; any other URL unchanged."""
    match = _CC_URL.fullmatch(url or "")
    return from_code(match[1], match[2]) if match else url


def is_open(licence: str | None) -> bool:
    """Return whether a licence permits use and changes for any purpose: CC0, public domain, CC BY, CC BY-SA.

    Source: the Open Definition 2.1; ``NC`` and ``ND`` licences do not meet it.
    """
    return bool(_OPEN.match(licence or ""))
