"""Face quality. Paper, section 3.4: ModelScope FQA, scores below 0.45 are removed; every model has its own threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hifidata.config.recipe import Recipe
from hifidata.config.sections import QualityConfig
from hifidata.core.schema import Reason, Verdict
from hifidata.models import registry
from hifidata.models.protocols import QualityScorer
from hifidata.stages.base import Columns, Sample, Stage, main_face


class Quality(Stage):
    """One score and, where the model has them, its components."""

    name = "quality"
    needs = ("quality_score",)
    replayable = ("min_score",)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._scorer: QualityScorer = registry.load("quality", str(recipe.quality.model), recipe.quality)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Scores the face in the upright picture at its native resolution, so that upscaling cannot flatter it."""
        rows = []
        for sample in samples:
            face = main_face(sample.row)
            rows.append(dict(self._scorer.score(sample.rgb_u8, face.xyxy_px, face.kps_px, face.landmarks_px)))
        columns: Columns = {name: [row[name] for row in rows] for name in rows[0]}
        return columns | {"quality_model": [self._scorer.name] * len(rows)}

    @staticmethod
    def decide(row: Mapping[str, Any], settings: QualityConfig) -> Verdict | None:
        """Below the threshold."""
        score, floor = row["quality_score"], settings.min_score
        if floor is None or score >= floor:
            return None
        return Verdict(Reason.LOW_QUALITY, score, floor, f"quality {score:.2f}, the recipe asks for {floor:.2f}")
