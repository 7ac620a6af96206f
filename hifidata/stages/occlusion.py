"""Objects in front of the face.

Source: paper, section 3.4. BLIP-2 describes the face; images whose description names a foreign object (hand, microphone)
are removed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hifidata.config.recipe import Recipe
from hifidata.config.sections import OcclusionConfig
from hifidata.core.reasons import Limit, Reason
from hifidata.core.schema import Column, Row, Verdict
from hifidata.models import registry
from hifidata.models.protocols import OcclusionChecker
from hifidata.stages.base import Columns, Sample, Stage, main_face

SEPARATOR = " | "

_IDIOMS = re.compile(
    r"\b(?:(?:first|second|off)[- ]hand|(?:left|right)-hand (?:side|edge|corner|half)|on the (?:other|one) hand"
    r"|hand (?:drawn|made|painted|knitted|crafted|written|sewn)|(?:world|davis|ryder|stanley|super) cups?)\b",
    re.IGNORECASE,
)
"""Phrases in which hand or cup is not an object. The World Cup is an event; a recipe can add "trophy" to the terms."""

_CLAUSE_END = re.compile(
    r"[.,;:!?()\"“”–—]+|\b(?:and|but|except|besides|yet|although|though|while|who|which|whose)\b", re.IGNORECASE
)
_LIST_COMMA = re.compile(
    r",\s+(?=(?:(?:any|other)\s+)*[\w-]+(?:,\s+(?:(?:any|other)\s+)*[\w-]+){0,8},?\s+n?or\b)", re.IGNORECASE
)
"""Commas of a list that ends in "or", as in "no hands, cups or masks"."""

_DENIAL = re.compile(r"no|not|cannot|without|nothing|none|neither|nor|never|\w+n['’]t", re.IGNORECASE)
_EMPHASIS = ("only", "just", "merely", "simply")
"""Words after which "not" is no negation, as in "not only"."""

DENIED_WORDS = 6
"""Number of words that a negation covers: in "does not appear to be a hand", hand is the fifth word."""


OCCLUDED = Reason(
    "occluded",
    "Face covered",
    "An object in front of the face hides part of it.",
    limit=Limit("occlusion_score", "at or above", "occlusion.min_score", "confidence that an object covers the face"),
)


class Occlusion(Stage):
    """Stores the model's answer. ``derive`` selects the terms that count, so a replay can change them."""

    name = "occlusion"
    title = "Occlusion"
    does = "Images in which an object covers the face are dropped."
    not_run = "Occlusion was not checked: the recipe sets no model. Hands, microphones or masks may cover faces that were kept."
    columns = (
        Column("occlusion_answer", "string", "answer of the occlusion model"),
        Column(
            "occlusion_found", "string", "objects that the model names, separated by ' | '; null for free descriptions"
        ),
        Column(
            "occlusion_score",
            "float32",
            "confidence of the model in these objects; null for models without a confidence",
            "0 to 1",
        ),
        Column("occlusion_model", "string", "occlusion model"),
        Column("occlusion_terms", "string", "terms for which the image is dropped, separated by ' | '"),
    )
    reasons = (OCCLUDED,)
    required_columns = ("occlusion_answer",)
    replayable = ("terms", "min_score")
    batch_size = 8

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._checker: OcclusionChecker = registry.load("occlusion", str(recipe.occlusion.model), recipe.occlusion)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Return the model's answer, the objects that it names, and its confidence."""
        faces = [main_face(sample.row).xyxy_px for sample in samples]
        answers = self._checker.check([sample.rgb_u8 for sample in samples], faces)
        return {
            "occlusion_answer": [answer.answer for answer in answers],
            "occlusion_found": [None if answer.terms is None else SEPARATOR.join(answer.terms) for answer in answers],
            "occlusion_score": [answer.score for answer in answers],
            "occlusion_model": [self._checker.name] * len(samples),
        }

    @staticmethod
    def derive(rows: Sequence[Row], config: OcclusionConfig) -> Columns:
        """Return the terms for which each image is dropped; null for none."""
        return {"occlusion_terms": [SEPARATOR.join(counted_terms(row, config)) or None for row in rows]}

    @staticmethod
    def decide(row: Mapping[str, Any], config: OcclusionConfig) -> Verdict | None:
        """Drop an image with a counted object in front of the face."""
        terms, score = row["occlusion_terms"], row.get("occlusion_score")
        if not terms:
            return None
        floor = None if score is None else config.min_score
        return Verdict(OCCLUDED, score, floor, f"in front of the face: {terms}")


def counted_terms(row: Mapping[str, Any], config: OcclusionConfig) -> tuple[str, ...]:
    """Return the objects above ``min_score``, or the recipe's terms in a free description."""
    found, score = row.get("occlusion_found"), row.get("occlusion_score")
    if found is None:
        return terms_in(row["occlusion_answer"], config.terms)
    if score is not None and config.min_score is not None and score < config.min_score:
        return ()
    return tuple(filter(None, found.split(SEPARATOR)))


def terms_in(answer: str, terms: Sequence[str]) -> tuple[str, ...]:
    """Return the terms that a text contains as whole words, in singular or plural.

    "hands" contains "hand", "handsome" does not. A term after a hyphen counts, as in "face-mask". A term before a hyphen
    is part of another word, as in "hand-made". Negated terms do not count, see ``asserted``.
    """
    text = asserted(_IDIOMS.sub(" ", answer))
    return tuple(
        term for term in terms if re.search(rf"(?<!\w){re.escape(term)}(?:e?s)?(?![\w-])", text, re.IGNORECASE)
    )


def asserted(text: str) -> str:
    """Return a text without its negated words.

    A negation (no, not, without, nothing, ...) covers ``DENIED_WORDS`` words of its clause, and as many again after each
    "or". It ends before another verb ("no shirt holding a microphone") and before "with" ("no glasses with a hand"). It does
    not end before a verb or "with" that is part of it ("not holding", "not covered with"). In doubt, the word counts: losing
    an image costs less than keeping an occluded face.
    """
    kept: list[str] = []
    is_denied = False
    for clause in _CLAUSE_END.split(_LIST_COMMA.sub(" or ", text)):
        words = clause.split()
        goes_on = is_denied and words[:1] == ["or"]  # "no hand, or a cup"
        kept += [*_clause_without_denied(words, goes_on), ","]
        is_denied = goes_on or any(_DENIAL.fullmatch(word) for word in words)
    return " ".join(kept)


def _clause_without_denied(words: Sequence[str], is_denied: bool) -> list[str]:
    kept = []
    left = DENIED_WORDS + 1 if is_denied else 0  # words that the negation still covers
    for position, word in enumerate(words):
        before = words[position - 1].lower() if position else ""
        after = words[position + 1].lower() if position + 1 < len(words) else ""
        begins = bool(_DENIAL.fullmatch(word)) and after not in _EMPHASIS
        if begins or (left and word.lower() == "or"):
            left = DENIED_WORDS + 1
        elif left and _ends_denial(word.lower(), before):
            left = 0
        if left:
            left -= 1
        else:
            kept.append(word)
    return kept


def _ends_denial(word: str, before: str) -> bool:
    if word == "with":
        return not before.endswith(("ed", "en"))
    is_its_own_verb = _DENIAL.fullmatch(before) or before.endswith("ly") or before in ("is", "are", "was", "were", "be")
    return word.endswith("ing") and word not in ("anything", "nothing", "something", "thing") and not is_its_own_verb
