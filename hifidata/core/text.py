"""Untrusted text, such as names, URLs, answers of servers and file names, for the terminal.

A control character can move the cursor, change colours or clear the screen. A bidirectional mark can reorder a line, so that it
reads as another one.
"""

from __future__ import annotations

import json
from typing import Any

CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_MARKS = (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF, *range(0xE0000, 0xE0080))
_SURROGATES = range(0xD800, 0xE000)
_FILE_BYTES = {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}
"""Bytes of a file name that are no UTF-8, as ``os.fsdecode`` gives them."""

_ESCAPES = {code: f"\\u{code:04x}" for code in (*_MARKS, *_SURROGATES)} | CONTROL_CHARACTERS | _FILE_BYTES
_LINES = {code: text for code, text in _ESCAPES.items() if code != ord("\n")}
_JSON = {code: json.dumps(chr(code))[1:-1] for code in (*_MARKS, *_SURROGATES, *range(0x7F, 0xA0))}


def printable(text: str, lines: bool = False) -> str:
    """Return text for the terminal, with escapes such as ``\\x1b`` in place of control characters and bidirectional marks.

    Args:
        text: any text.
        lines: keep line breaks, for a message of several lines.
    """
    return text.translate(_LINES if lines else _ESCAPES)


def printable_json(value: Any, indent: int | None = None) -> str:
    """Return JSON whose strings are escaped for the terminal; a reader of the JSON gets them unchanged."""
    return json.dumps(value, indent=indent, ensure_ascii=False, default=str).translate(_JSON)
