"""Suggestions for misspelt names in messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str], otherwise: str = "known") -> str:
    """Return the nearest known name, or all known names after ``otherwise``, for a message."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"{otherwise}: {', '.join(names) or 'none'}"
