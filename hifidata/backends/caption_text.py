"""From what a language model answers to one line of plain text, and the answers that are none.

A model's words are data from outside: nothing in them is followed, and what could break a line, a terminal or a page is
taken out.
"""

from __future__ import annotations

import re
import unicodedata

from hifidata.backends.base import Description
from hifidata.schema import CaptionProblem

_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_MARKS = re.compile(r"(?m)^\s*(?:#{1,6}|[-*•]|\d{1,2}\.)\s+|\*\*|__|`+")
_SENTENCE_END = re.compile(r"[.!?。！？][\"'”’)]*(?=\s|$)|[。！？]")
_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]?m|i am|we['’]?re)\s+(?:very\s+|so\s+)?(?:sorry|unable|not able)\b|sorry\b|apologies\b|as an ai\b"
    r"|i\s+(?:can['’]?t|cannot|can not|won['’]?t|will not|must decline|do not feel)\b|unfortunately,? i\b)",
    re.IGNORECASE,
)
"""How refusals begin. A caption never does: it begins with what is seen."""


def plain(answer: str) -> str:
    """The answer without thoughts, markdown and invisible characters, on one line."""
    text = _MARKS.sub("", _THOUGHTS.sub("", answer))
    visible = (" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    return " ".join("".join(visible).split())


def description_of(answer: str, was_cut: bool, max_characters: int) -> Description:
    """What an answer is worth.

    Args:
        answer: the model's words.
        was_cut: whether the model ran into its limit of tokens.
        max_characters: of the text; more is cut.
    """
    text = plain(answer)
    if not text:
        return Description(None, CaptionProblem.TRUNCATED if was_cut else CaptionProblem.EMPTY)
    if _REFUSAL.match(text):
        return Description(None, CaptionProblem.REFUSED)
    if not was_cut and len(text) <= max_characters:
        return Description(text)
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if match.end() <= max_characters]
    return Description(text[: ends[-1]] if ends else None, CaptionProblem.TRUNCATED)
