"""Captions. Source: paper, section 3.4: a vision-language model describes appearance, without expression and pose.

If the model refuses or returns no usable text, the image gets a fallback caption from the measured values. The manifest
records the problem. With ``on_error: fail`` the image fails instead.
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
from hifidata.models.caption.sidecar import SidecarCaptioner
from hifidata.models.protocols import Captioner
from hifidata.stages.base import Columns, Sample, Stage
from hifidata.stages.caption_checks import flags_of

SEPARATOR = " | "


NO_CAPTION = Reason(
    "no_caption", "No caption", "The captioner returned no text, and the recipe allows no fallback.", failed=True
)


class Caption(Stage):
    """Writes the caption. It runs last, on images that passed all other stages."""

    name = "caption"
    title = "Captions"
    does = "Every portrait gets a caption."
    not_run = "Captions were not written: the recipe sets no model."
    columns = (
        Column("caption", "string", "caption of the portrait"),
        Column("caption_model", "string", "captioner that wrote the caption; attributes for a fallback caption"),
        Column("caption_problem", "string", "problem of a captioner that returned no text, or only part of a text"),
        Column("caption_flags", "string", "suspicious features of the caption, separated by ' | '; null for none"),
    )
    reasons = (NO_CAPTION,)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._attributes = AttributeCaptioner()
        self._captioner: Captioner | SidecarCaptioner | None = None
        if recipe.caption.model == SidecarCaptioner.name:
            self._captioner = SidecarCaptioner(recipe.caption)
        elif recipe.caption.model != self._attributes.name:
            model: Captioner = registry.load("caption", str(recipe.caption.model), recipe.caption)
            self._captioner, self.batch_size = model, model.batch_size
            self.reusable_columns = ("caption", "caption_model", "caption_problem")

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Write one caption per sample, with its captioner and the captioner's problem."""
        if self._captioner is None:
            return {
                "caption": [self._attributes.caption(sample.row) for sample in samples],
                "caption_model": [self._attributes.name] * len(samples),
            }
        if isinstance(self._captioner, SidecarCaptioner):
            described = [self._captioner.caption(sample.row) for sample in samples]
        else:
            described = list(self._captioner.describe([sample.portrait_u8 for sample in samples]))
        fails = self.recipe.caption.on_error == "fail"
        fallbacks = [None if fails else self._attributes.caption(sample.row) for sample in samples]
        return {
            "caption": [own.text or fallback for own, fallback in zip(described, fallbacks, strict=True)],
            "caption_model": [
                self._captioner.name if own.text or fails else self._attributes.name for own in described
            ],
            "caption_problem": [None if own.problem is None else str(own.problem) for own in described],
        }

    def is_reusable(self, earlier: Row) -> bool:
        """Return whether the captioner answered before, with a text or a refusal: a second request would cost again."""
        is_own = self._captioner is not None and earlier["caption_model"] == self._captioner.name
        return bool(earlier["caption"]) and (is_own or earlier["caption_problem"] == CaptionProblem.REFUSED)

    @staticmethod
    def derive(rows: Sequence[Row], config: CaptionConfig) -> Columns:
        """Flag suspicious features of model captions. Null for none, and for captions made from measured values."""
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
        """Fail an image without a caption, if the recipe allows no fallback."""
        # A row without a caption and without a problem was not captioned: this is a replay.
        if row["caption"] is not None or row.get("caption_problem") is None:
            return None
        return Verdict(NO_CAPTION, message=f"{row['caption_model']} returned no caption: {row['caption_problem']}")


def count_fallback_captions(rows: Sequence[Row]) -> dict[str, int]:
    """Count the fallback captions by ``caption_problem``."""
    fallbacks = (
        row for row in rows if row.get("caption_model") == AttributeCaptioner.name and row.get("caption_problem")
    )
    return dict(Counter(row["caption_problem"] for row in fallbacks))
