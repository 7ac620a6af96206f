"""Image caption. Paper, section 3.4: a vision-language model describes appearance, not expression or pose."""

from __future__ import annotations

from collections.abc import Sequence

from hifidata import backends
from hifidata.backends.attribute_caption import AttributeCaptioner
from hifidata.recipe import Recipe
from hifidata.stages.base import Columns, Sample, Stage


class Caption(Stage):
    """Fills ``caption``; runs last, on pictures that stay."""

    name = "caption"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._captioner: AttributeCaptioner = backends.load("caption", str(recipe.caption.model))

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """One caption per sample and the name of what wrote it."""
        return {
            "caption": [self._captioner.caption(sample.row) for sample in samples],
            "caption_model": [self._captioner.name] * len(samples),
        }
