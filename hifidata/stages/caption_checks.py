"""Checks of captions: heuristics over English words that flag suspicious features. They drop no image.

Source: paper, section 3.4: the prompt excludes expressions and poses, because the landmarks carry them.
"""

from __future__ import annotations

import re

from hifidata.core.schema import CaptionFlag

MIN_WORDS = 5

ENGLISH = frozenset({
    "a", "an", "and", "are", "as", "at", "by", "for", "from", "has", "have", "her", "his", "in", "is", "it", "its",
    "of", "on", "or", "she", "he", "that", "the", "their", "they", "this", "to", "was", "wearing", "with", "who",
    "while",
})  # fmt: skip
MIN_ENGLISH_SHARE = 0.15
"""Smallest share of ``ENGLISH`` words. English text has about a third; other languages have far fewer."""

_WORDS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_EXPRESSION = re.compile(
    r"\b(?:smil(?:e|es|ing|ed)|grin(?:s|ning|ned)?|frown(?:s|ing|ed)?|laugh(?:s|ing|ter)?|smirk(?:s|ing)?|scowl(?:s|ing)?"
    r"|pout(?:s|ing)?|winc(?:es|ing)|expressions?|expressionless|demeanou?r|cheerful|joyful|angry|sad|surprised"
    r"|(?:looks?|appears?|seems?) (?:happy|serious|calm|content|confident|pensive|thoughtful|tired|relaxed)"
    r"|(?:stern|serious|blank|vacant|thoughtful|pensive|solemn|intense|piercing|worried|puzzled|determined|friendly|fierce)"
    r" (?:look|gaze|stare|face)"
    r"|mouth (?:is |was )?(?:(?:slightly|partly|wide|half) )?(?:open|closed|agape)|(?:open|closed) mouth|open-mouthed"
    r"|(?:rais|lift|furrow|knit)(?:s|es|ing|ting) (?:(?:his|her|their|its|an|one|both|the|left|right) )*(?:eye)?brows?"
    r"|(?:raised|furrowed|knitted) (?:eye)?brows?|(?:eye)?brows? (?:is |are )?(?:slightly )?(?:raised|lifted|furrowed|knitted)"
    r"|lips? (?:is |are )?(?:(?:slightly|gently|tightly) )?(?:curv(?:e|es|ed|ing)|curl(?:s|ed|ing)?|parted|pursed|pressed|upturned)"
    r"|(?:pursed|parted) lips|squint(?:s|ing)?|wide-eyed)\b",
    re.IGNORECASE,
)
_POSE = re.compile(
    r"\b(?:pos(?:e|es|ing|ed)|posture|(?:head|face|body|chin|shoulders?) (?:is |are )?(?:slightly )?(?:turned|tilted|raised|lowered)"
    r"|tilt(?:s|ing|ed)?|gaz(?:e|es|ing)|(?:look|looks|looking|facing|faces|turned|turning) (?:directly |slightly |straight )?"
    r"(?:at|away|to|toward|towards|into|up|down|left|right|forward|ahead|over)\b|profile view|in profile|lean(?:s|ing)"
    r"|(?:stand|sitt|kneel)(?:s|ing)|seated|crossed arms|arms (?:are )?crossed|hands? on)",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"https?://|www\.|</?[a-z!][^>]*>|[{}\\]|\b(?:system|assistant|user)\s*:", re.IGNORECASE)


def flags_of(caption: str, language: str) -> tuple[CaptionFlag, ...]:
    """Return the flags of a caption, in the order of ``CaptionFlag``.

    Args:
        caption: one line.
        language: ``en``, or ``any`` to accept every language.
    """
    words = [word.lower() for word in _WORDS.findall(caption)]
    found = {
        CaptionFlag.TOO_SHORT: len(words) < MIN_WORDS and not _is_unspaced(caption),
        CaptionFlag.OTHER_LANGUAGE: language == "en" and bool(caption) and not _is_english(words),
        CaptionFlag.EXPRESSION: bool(_EXPRESSION.search(caption)),
        CaptionFlag.POSE: bool(_POSE.search(caption)),
        CaptionFlag.MARKUP: bool(_MARKUP.search(caption)),
    }
    return tuple(flag for flag in CaptionFlag if found[flag])


def _is_english(words: list[str]) -> bool:
    """Return whether the words are English. Fewer than ``MIN_WORDS`` words pass if their letters are Latin."""
    if len(words) < MIN_WORDS:
        return bool(words) and all(word[0] < "\u0250" for word in words)
    return sum(word in ENGLISH for word in words) >= MIN_ENGLISH_SHARE * len(words)


def _is_unspaced(caption: str) -> bool:
    """Return whether the text has almost no spaces, as in Chinese, Japanese and Thai."""
    return len(caption) >= 20 and caption.count(" ") < len(caption) / 20
