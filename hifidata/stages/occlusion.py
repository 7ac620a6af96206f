"""Things before the face. Paper, section 3.4: BLIP-2 describes the face, and descriptions that name foreign objects
(a hand, a microphone) remove the image."""

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
"""Words that name no hand and no cup. The World Cup is an event; who minds its trophy adds "trophy" to the terms."""

_CLAUSE_END = re.compile(
    r"[.,;:!?()\"“”–—]+|\b(?:and|but|except|besides|yet|although|though|while|who|which|whose)\b", re.IGNORECASE
)
_LIST_COMMA = re.compile(
    r",\s+(?=(?:(?:any|other)\s+)*[\w-]+(?:,\s+(?:(?:any|other)\s+)*[\w-]+){0,8},?\s+n?or\b)", re.IGNORECASE
)
"""Of a list that ends in "or", as in "no hands, cups or masks"."""

_DENIAL = re.compile(r"no|not|cannot|without|nothing|none|neither|nor|never|\w+n['’]t", re.IGNORECASE)
_EMPHASIS = ("only", "just", "merely", "simply")
"""After "not" they deny nothing."""

DENIED_WORDS = 6
"""How far a denial reaches: "does not appear to be a hand" has it in the fifth word."""


OCCLUDED = Reason(
    "occluded",
    "Face covered",
    "Something in front of the face hides part of it.",
    limit=Limit("occlusion_score", "at or above", "occlusion.min_score", "certainty that something covers the face"),
)


class Occlusion(Stage):
    """Keeps the model's answer; which words of it count is arithmetic, and can be replayed."""

    name = "occlusion"
    title = "Occlusion"
    does = "Pictures in which something covers the face are dropped."
    not_run = "Occlusion was not checked: no model was set in the recipe. Hands, microphones or masks may cover faces that were kept."
    columns = (
        Column("occlusion_answer", "string", "answer of the occlusion model"),
        Column(
            "occlusion_found", "string", "objects that the model names, ' | ' between; null where it describes freely"
        ),
        Column(
            "occlusion_score", "float32", "confidence of the model in these objects; null where it gives none", "0 to 1"
        ),
        Column("occlusion_model", "string", "occlusion model"),
        Column("occlusion_terms", "string", "terms that count against the picture, ' | ' between"),
    )
    reasons = (OCCLUDED,)
    needs = ("occlusion_answer",)
    replayable = ("terms", "min_score")
    batch_size = 8

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._checker: OcclusionChecker = registry.load("occlusion", str(recipe.occlusion.model), recipe.occlusion)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """The answer, what the model itself names, and its confidence in that."""
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
        """The terms that count against the picture; null for none."""
        return {"occlusion_terms": [SEPARATOR.join(counted_terms(row, config)) or None for row in rows]}

    @staticmethod
    def decide(row: Mapping[str, Any], config: OcclusionConfig) -> Verdict | None:
        """Something that counts is before the face."""
        terms, score = row["occlusion_terms"], row.get("occlusion_score")
        if not terms:
            return None
        floor = None if score is None else config.min_score
        return Verdict(OCCLUDED, score, floor, f"before the face: {terms}")


def counted_terms(row: Mapping[str, Any], config: OcclusionConfig) -> tuple[str, ...]:
    """What the model names, where it is certain enough; in a free description, the recipe's terms."""
    found, score = row.get("occlusion_found"), row.get("occlusion_score")
    if found is None:
        return terms_in(row["occlusion_answer"], config.terms)
    if score is not None and config.min_score is not None and score < config.min_score:
        return ()
    return tuple(filter(None, found.split(SEPARATOR)))


def terms_in(answer: str, terms: Sequence[str]) -> tuple[str, ...]:
    """The terms that stand in a text as whole words, in singular or plural: "hands" holds "hand", "handsome" does not.

    A hyphen may stand before a term, as in "face-mask"; what one joins to its end is another word, as in "hand-made". What the
    text denies does not count: see ``asserted``.
    """
    text = asserted(_IDIOMS.sub(" ", answer))
    return tuple(
        term for term in terms if re.search(rf"(?<!\w){re.escape(term)}(?:e?s)?(?![\w-])", text, re.IGNORECASE)
    )


def asserted(text: str) -> str:
    """A text without what it denies.

    A denial (no, not, without, nothing, ...) reaches over ``DENIED_WORDS`` words of its clause, and as many again after each
    "or". It ends before another verb ("no shirt holding a microphone") and before "with" ("no glasses with a hand"), unless
    they belong to it ("not holding", "not covered with"). Where that is in doubt the word counts: a picture too few is cheaper
    than a hand before a face.
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
    left = DENIED_WORDS + 1 if is_denied else 0  # words that the denial still reaches
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
