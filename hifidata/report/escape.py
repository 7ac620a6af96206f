"""Control characters in what the report quotes, made visible in the way the terminal shows them.

A browser draws a box for an escape character and a space for a line break, so that two names would look alike.
"""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}


def visible(value: Any) -> Any:
    """What a template prints: text with its control characters spelled out; markup and numbers as they are."""
    return value.translate(CONTROL_CHARACTERS) if isinstance(value, str) and not isinstance(value, Markup) else value


def visible_lines(text: str) -> Markup:
    """Text of several lines, which stay lines, escaped for a page."""
    return Markup("\n").join(visible(line) for line in text.split("\n"))
