"""A stage that drops faces with dark glasses: eyes much darker than cheeks."""

import numpy as np
from pydantic import Field

from hifidata.config.sections import StageConfig
from hifidata.core.reasons import Limit, Reason
from hifidata.core.schema import Column, Verdict
from hifidata.stages.base import Stage, main_face

SUNGLASSES = Reason(
    "sunglasses",
    "Sunglasses",
    "Both eyes are much darker than the cheeks.",
    limit=Limit("sunglasses_score", "above", "sunglasses.max_score", "darkness of the eyes"),
)


class SunglassesConfig(StageConfig):
    """The recipe section ``sunglasses``."""

    max_score: float = 0.6
    patch_ratio: float = Field(
        0.3, gt=0, le=1, description="side of the compared patches over the distance of the eyes"
    )


class Sunglasses(Stage):
    """Compares the brightness around the eyes with that of the cheeks."""

    name = "sunglasses"
    title = "Sunglasses"
    does = "Faces with dark glasses are dropped."
    not_run = "Sunglasses were not looked for: the recipe does not use the stage."
    licence = "MIT"
    commercial = True
    Config = SunglassesConfig
    columns = (
        Column("sunglasses_score", "float32", "1 minus brightness of the eyes over that of the cheeks", "0 to 1"),
    )
    reasons = (SUNGLASSES,)
    required_columns = ("sunglasses_score",)
    replayable = ("max_score",)

    def __init__(self, recipe):
        super().__init__(recipe)
        self.patch_ratio = self.config(recipe).patch_ratio

    def measure(self, samples):
        """Return one score per sample. Only this part uses pixels."""
        return {"sunglasses_score": [self._score(sample.rgb_u8, main_face(sample.row)) for sample in samples]}

    @staticmethod
    def decide(row, config):
        """Drop an image whose score is above the limit."""
        if row["sunglasses_score"] <= config.max_score:
            return None
        return Verdict(
            SUNGLASSES, row["sunglasses_score"], config.max_score, "the eyes are much darker than the cheeks"
        )

    def _score(self, rgb_u8, face):
        left, right, _, mouth_left, mouth_right = face.kps_px
        side = max(int(np.linalg.norm(right - left) * self.patch_ratio), 2)

        def brightness(point):
            x, y = np.maximum(point - side / 2, 0).astype(int)
            return float(rgb_u8[y : y + side, x : x + side].mean())

        cheeks = (brightness((left + mouth_left) / 2) + brightness((right + mouth_right) / 2)) / 2
        eyes = max(brightness(left), brightness(right))
        return float(np.clip(1 - eyes / max(cheeks, 1.0), 0, 1))
