"""Face quality. Source: paper, section 3.4: ModelScope FQA, scores below 0.45 are removed. Each model has its own threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hifidata.config.recipe import Recipe
from hifidata.config.sections import QualityConfig
from hifidata.core.reasons import Limit, Reason
from hifidata.core.schema import Column, Verdict
from hifidata.models import registry
from hifidata.models.protocols import QualityScorer
from hifidata.stages.base import Columns, Sample, Stage, main_face

LOW_QUALITY = Reason(
    "low_quality",
    "Low quality",
    "The quality score is below the limit: the face is blurred, badly lit, turned away or has too few pixels.",
    limit=Limit("quality_score", "below", "quality.min_score", "quality"),
)


class Quality(Stage):
    """Quality score and, for some models, its components."""

    name = "quality"
    title = "Quality"
    does = "The face gets a quality score from 0 to 1; images with low scores are dropped."
    not_run = "Face quality was not checked: the recipe sets no model."
    columns = (
        Column("yaw_deg", "float32", "head pose; positive: the head turns to the right side of the image"),
        Column("pitch_deg", "float32", "head pose; positive: the head looks up"),
        Column("roll_deg", "float32", "head pose; positive: clockwise in the image"),
        Column("quality_score", "float32", "face quality, higher is better", "0 to 1"),
        Column("quality_model", "string", "quality model"),
        Column("quality_sharpness", "float32", "component of iso29794: sharpness", "0 to 1"),
        Column("quality_illumination", "float32", "component of iso29794: evenness of the face's two halves", "0 to 1"),
        Column("quality_contrast", "float32", "component of iso29794: contrast", "0 to 1"),
        Column("quality_exposure", "float32", "component of iso29794: exposure", "0 to 1"),
        Column("quality_pose", "float32", "component of iso29794: frontal pose", "0 to 1"),
        Column("quality_inter_eye", "float32", "component of iso29794: size of the face", "0 to 1"),
        Column("inter_eye_px", "float32", "distance of the eye centres in the upright image"),
    )
    reasons = (LOW_QUALITY,)
    required_columns = ("quality_score",)
    replayable = ("min_score",)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._scorer: QualityScorer = registry.load("quality", str(recipe.quality.model), recipe.quality)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Score the face in the upright image at native resolution: upscaling would change the score."""
        rows = []
        for sample in samples:
            face = main_face(sample.row)
            rows.append(dict(self._scorer.score(sample.rgb_u8, face.xyxy_px, face.kps_px, face.landmarks_px)))
        columns: Columns = {name: [row[name] for row in rows] for name in rows[0]}
        return columns | {"quality_model": [self._scorer.name] * len(rows)}

    @staticmethod
    def decide(row: Mapping[str, Any], config: QualityConfig) -> Verdict | None:
        """Drop an image below the smallest score."""
        score, floor = row["quality_score"], config.min_score
        if floor is None or score >= floor:
            return None
        return Verdict(LOW_QUALITY, score, floor, f"quality {score:.2f}, the recipe requires {floor:.2f}")
