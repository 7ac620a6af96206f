"""File names are bytes. Python carries bytes that are not UTF-8 as lone surrogates; this module shows them escaped."""

from __future__ import annotations

import hashlib
import re

MARK = "~[0-9a-f]{8}"
"""Pattern of the hash at the end of a name with bytes that are not UTF-8."""


def escaped(text: str) -> str:
    r"""Return a file name as valid Unicode; bytes that are not UTF-8 become ``\xNN``."""
    return _bytes(text).decode("utf-8", errors="backslashreplace")


def printable_name(text: str) -> str:
    r"""Return a file name as valid Unicode that no other file name has.

    A name with bytes that are not UTF-8 ends in ``~`` and 8 hex digits of its sha256: ``Jos\xe9~1f0c2a4b``.
    """
    shown, name = escaped(text), _bytes(text)
    return shown if shown.encode() == name else f"{shown}~{hashlib.sha256(name).hexdigest()[:8]}"


def without_mark(name: str) -> str:
    """Return the output of ``printable_name`` without its hash."""
    return re.sub(rf"{MARK}\Z", "", name)


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no byte, for example from the escapes of JSON
        return text.encode("utf-8", "surrogatepass")
