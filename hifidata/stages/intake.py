"""Intake: are the bytes a picture that the recipe accepts? Decodes it, once, or as far as detection needs it."""

from __future__ import annotations

from collections.abc import Sequence

from hifidata.config.recipe import Recipe
from hifidata.stages.base import Columns, Sample, Stage


class Intake(Stage):
    """Sniffs, checks the limits in the header, decodes upright to sRGB; every refusal is an IntakeError."""

    name = "intake"

    @classmethod
    def runs(cls, recipe: Recipe) -> bool:
        """Always."""
        return True

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Size, format and colour facts; the pixels stay with the sample. Raises IntakeError."""
        columns: Columns = {"width_px": [], "height_px": [], "exif_orientation": [], "colour_mode": [], "n_frames": []}
        for sample in samples:
            picture = sample.look
            columns["height_px"].append(picture.height_px)
            columns["width_px"].append(picture.width_px)
            columns["exif_orientation"].append(picture.exif_orientation)
            columns["colour_mode"].append(picture.mode)
            columns["n_frames"].append(picture.n_frames)
        return columns
