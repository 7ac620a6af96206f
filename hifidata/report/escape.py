"""Escapes for control characters in quoted text, the same as in the terminal output.

Browsers show a control character as a box or a space, so different names would look the same.
"""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from hifidata.core.text import CONTROL_CHARACTERS


def escape_controls(value: Any) -> Any:
    """Replace control characters in text by escapes such as ``\\x1b``; markup and other types stay unchanged."""
    return value.translate(CONTROL_CHARACTERS) if isinstance(value, str) and not isinstance(value, Markup) else value


def escape_lines(text: str) -> Markup:
    """Escape text for HTML and keep its line breaks."""
    return Markup("\n").join(escape_controls(line) for line in text.split("\n"))
