"""Image caption. Paper, section 3.4: a vision-language model describes appearance, not expression or pose.

A picture is not lost for its caption, unless the recipe says so: where the model refuses, or gives nothing that can be
used, a plain sentence of what was measured stands in, and the manifest says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hifidata.config.recipe import Recipe
from hifidata.config.sections import CaptionConfig
from hifidata.core.reasons import Reason
from hifidata.core.schema import CaptionProblem, Column, Row, Verdict
from hifidata.models import registry
from hifidata.models.caption.attributes import AttributeCaptioner
from hifidata.models.protocols import Captioner
from hifidata.stages.base import Columns, Sample, Stage
from hifidata.stages.caption_checks import flags_of

SEPARATOR = " | "


NO_CAPTION = Reason(
    "no_caption", "No caption", "The caption model gave no text, and the recipe takes no other.", failed=True
)


class Caption(Stage):
    """Fills ``caption``; runs last, on pictures that stay."""

    name = "caption"
    title = "Captions"
    does = "Every portrait gets a caption."
    not_run = "Captions were not written: no model was set in the recipe."
    columns = (
        Column("caption", "string", "text of the sample"),
        Column("caption_model", "string", "source of the caption"),
        Column(
            "caption_problem",
            "string",
            "cause where the captioner gave no text, or part of one; caption_model says what stands in",
        ),
        Column("caption_flags", "string", "oddities of the captioner's text, ' | ' between; null for none"),
    )
    reasons = (NO_CAPTION,)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._plain = AttributeCaptioner()
        self._captioner: Captioner | None = None
        if recipe.caption.model != self._plain.name:
            self._captioner = registry.load("caption", str(recipe.caption.model), recipe.caption)
            self.batch_size = self._captioner.batch_size
            self.remembers = ("caption", "caption_model", "caption_problem")

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """One caption per sample, what wrote it, and why that is not the model's own text, where it is not."""
        if self._captioner is None:
            return {
                "caption": [self._plain.caption(sample.row) for sample in samples],
                "caption_model": [self._plain.name] * len(samples),
            }
        described = self._captioner.describe([sample.portrait_u8 for sample in samples])
        fails = self.recipe.caption.on_error == "fail"
        stand_ins = [None if fails else self._plain.caption(sample.row) for sample in samples]
        return {
            "caption": [own.text or other for own, other in zip(described, stand_ins, strict=True)],
            "caption_model": [self._captioner.name if own.text or fails else self._plain.name for own in described],
            "caption_problem": [None if own.problem is None else str(own.problem) for own in described],
        }

    def still_holds(self, earlier: Row) -> bool:
        """What the captioner said, a refusal too, is not asked for, or paid, twice."""
        is_own = self._captioner is not None and earlier["caption_model"] == self._captioner.name
        return bool(earlier["caption"]) and (is_own or earlier["caption_problem"] == CaptionProblem.REFUSED)

    @staticmethod
    def derive(rows: Sequence[Row], config: CaptionConfig) -> Columns:
        """What is odd about a model's text; null for nothing, and for sentences of our own."""
        return {
            "caption_flags": [
                SEPARATOR.join(flags_of(row["caption"], config.language)) or None
                if row["caption"] and row["caption_model"] != AttributeCaptioner.name
                else None
                for row in rows
            ]
        }

    @staticmethod
    def decide(row: Mapping[str, Any], config: CaptionConfig) -> Verdict | None:
        """No caption, in a recipe that takes no other."""
        if row["caption"] is not None or row.get("caption_problem") is None:  # the latter: a replay, nobody was asked
            return None
        return Verdict(NO_CAPTION, message=f"{row['caption_model']} gave no caption: {row['caption_problem']}")


def stand_ins(rows: Sequence[Row]) -> dict[str, int]:
    """How many captions are sentences of our own because the model gave none, by ``caption_problem``."""
    instead = (
        row for row in rows if row.get("caption_model") == AttributeCaptioner.name and row.get("caption_problem")
    )
    return dict(Counter(row["caption_problem"] for row in instead))
