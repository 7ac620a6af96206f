"""Messages of libraries inside our own messages."""

from __future__ import annotations

MAX_CHARS = 500


def one_line(problem: Exception) -> str:
    """Return the message of another package's error on one line, without control characters, and of a bounded length."""
    line = " ".join(str(problem).split()) or type(problem).__name__
    return "".join(character if character.isprintable() else "?" for character in line[:MAX_CHARS])
