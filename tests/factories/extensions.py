"""Stages and models of another package that do not fit, each in one way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hifidata.config.sections import StageConfig
from hifidata.core.base_config import BaseConfig
from hifidata.core.reasons import Reason
from hifidata.core.schema import Column, Verdict
from hifidata.stages.base import Columns, Sample, Stage
from hifidata.weights.catalogue import Weight


class Scorer:
    """Fits."""

    name = "constant"
    licence = "MIT"
    commercial: bool | None = True

    def score(self, picture: Any, xyxy_px: Any, kps_px: Any, landmarks_px: Any) -> Mapping[str, float]:
        return {"quality_score": 0.9}


class OtherMethod:
    name, licence = "x", "MIT"

    def rate(self, picture: Any) -> float:
        return 0.9


class TooFewArguments(Scorer):
    def score(self, picture: Any) -> Mapping[str, float]:  # type: ignore[override]
        return {"quality_score": 0.9}


class NoLicence:
    name = "x"
    score = Scorer.score


class FileWithoutHash(Scorer):
    files = (Weight("x", "x.onnx", "MIT", True),)


class UndeclaredColumn(Scorer):
    def score(self, picture: Any, xyxy_px: Any, kps_px: Any, landmarks_px: Any) -> Mapping[str, float]:
        return {"quality_score": 0.9, "quality_glow": 0.5}


class TakenColumn(Scorer):
    columns = (Column("similarity", "float32", "taken"),)


class UnknownType(Scorer):
    columns = (Column("glow", "float", "no type of Arrow"),)


class BrokenScorer(Scorer):
    def score(self, picture: Any, xyxy_px: Any, kps_px: Any, landmarks_px: Any) -> Mapping[str, float]:
        raise ZeroDivisionError("division by zero")


class NonCommercial(Scorer):
    licence = "CC-BY-NC-4.0"
    commercial = False


class WithOptions(Scorer):
    class Config(BaseConfig):
        side_px: int = 128

    def __init__(self, options: Config) -> None:
        self.options = options


class GlowConfig(StageConfig):
    """Settings of the stages below."""

    max_score: float = 0.5


class Glow(Stage):
    """Fits."""

    name = "glow"
    title, does, not_run, licence = "Glow", "Glow is measured.", "Glow was not measured.", "MIT"
    Config: ClassVar[type[StageConfig]] = GlowConfig
    columns = (Column("glow_score", "float32", "made up"),)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        return {"glow_score": [0.1] * len(samples)}


class GlowWithoutTitle(Stage):
    name, Config = "glow", GlowConfig


class GlowNotAStage:
    name, Config = "glow", GlowConfig


class GlowWithOtherConfig(Glow):
    Config = BaseConfig  # type: ignore[assignment]


class GlowNamedLikeOurs(Glow):
    name = "quality"


class GlowWithOtherColumn(Glow):
    def measure(self, samples: Sequence[Sample]) -> Columns:
        return {"glow": [0.1] * len(samples)}


class GlowWithOtherType(Glow):
    def measure(self, samples: Sequence[Sample]) -> Columns:
        return {"glow_score": ["bright"] * len(samples)}


class GlowWithOtherReason(Glow):
    @staticmethod
    def decide(row: Mapping[str, Any], config: Any) -> Verdict | None:
        return Verdict(Reason("too_bright", "Too bright", "It glows too much."))


class GlowWithTakenReason(Glow):
    reasons = (Reason("no_face", "No face", "Taken by the detect stage."),)
