"""Things before the face. Paper, section 3.4: BLIP-2 describes the face, and descriptions that name foreign objects
(a hand, a microphone) remove the image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hifidata import backends
from hifidata.backends.base import OcclusionChecker
from hifidata.recipe import Recipe
from hifidata.recipe_sections import Occlusion as OcclusionSettings
from hifidata.schema import Reason, Row, Verdict
from hifidata.stages.base import Columns, Sample, Stage, main_face

SEPARATOR = " | "

_NO_HAND = re.compile(r"\b(?:(?:first|second|off)-hand|(?:left|right)-hand (?:side|edge|corner|half))\b", re.IGNORECASE)
"""Words with a hyphen before "hand" that name no hand."""


class Occlusion(Stage):
    """Keeps the model's answer; which words of it count is arithmetic, and can be replayed."""

    name = "occlusion"
    needs = ("occlusion_answer",)
    replayable = ("terms", "min_score")
    batch_size = 8

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._checker: OcclusionChecker = backends.load("occlusion", str(recipe.occlusion.model), recipe.occlusion)

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
    def derive(rows: Sequence[Row], settings: OcclusionSettings) -> Columns:
        """The terms that count against the picture; null for none."""
        return {"occlusion_terms": [SEPARATOR.join(counted_terms(row, settings)) or None for row in rows]}

    @staticmethod
    def decide(row: Mapping[str, Any], settings: OcclusionSettings) -> Verdict | None:
        """Something that counts is before the face."""
        terms, score = row["occlusion_terms"], row.get("occlusion_score")
        if not terms:
            return None
        floor = None if score is None else settings.min_score
        return Verdict(Reason.OCCLUDED, score, floor, f"before the face: {terms}")


def counted_terms(row: Mapping[str, Any], settings: OcclusionSettings) -> tuple[str, ...]:
    """What the model names, where it is certain enough; in a free description, the recipe's terms."""
    found, score = row.get("occlusion_found"), row.get("occlusion_score")
    if found is None:
        return terms_in(row["occlusion_answer"], settings.terms)
    if score is not None and settings.min_score is not None and score < settings.min_score:
        return ()
    return tuple(filter(None, found.split(SEPARATOR)))


def terms_in(answer: str, terms: Sequence[str]) -> tuple[str, ...]:
    """The terms that stand in a text as whole words, in singular or plural: "hands" holds "hand", "handsome" does not.

    A hyphen may stand before a term, as in "face-mask"; what one joins to its end is another word, as in "hand-made".
    """
    text = _NO_HAND.sub(" ", answer)
    return tuple(
        term for term in terms if re.search(rf"(?<!\w){re.escape(term)}(?:e?s)?(?![\w-])", text, re.IGNORECASE)
    )
