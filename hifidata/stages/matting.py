"""Alpha matte of the person. Source: paper, section 3.2: PP-Matting removes the background of reference images.

The matte is stored beside the portrait, so that training can choose whether to use it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from hifidata.config.recipe import Recipe
from hifidata.core.schema import Column
from hifidata.models import registry
from hifidata.models.protocols import F32, Matter
from hifidata.stages.base import Columns, Sample, Stage

SUFFIX = "alpha.png"


class Matting(Stage):
    """Adds the alpha matte, 8-bit grey at the portrait's size, to the sample. It drops no image."""

    name = "matting"
    title = "Matting"
    does = "The alpha matte of the person is stored beside the portrait."
    not_run = "No alpha matte was computed: the recipe sets no model."
    columns = (Column("matting_model", "string", "matting model of the sample's .alpha.png"),)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._matter: Matter = registry.load("matting", str(recipe.matting.model))

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Add the alpha matte to each sample, and return the model's name."""
        alphas = self._matter.matte([sample.portrait_u8 for sample in samples])
        for sample, alpha in zip(samples, alphas, strict=True):
            sample.extras[SUFFIX] = alpha_png(alpha)
        return {"matting_model": [self._matter.name] * len(samples)}


def alpha_png(alpha: F32) -> bytes:
    """Encode an alpha matte, (H, W) float32 from 0 to 1, as an 8-bit grey PNG. The bytes are deterministic."""
    levels = np.rint(alpha * 255).astype(np.uint8)
    png: bytes = cv2.imencode(".png", levels)[1].tobytes()
    return png
