"""Stages and models of another package that do not fit, each in one way, for all images or for one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hifidata.config.sections import StageConfig
from hifidata.core.base_config import BaseConfig
from hifidata.core.errors import ModelError
from hifidata.core.reasons import Limit, Reason
from hifidata.core.schema import Column, Row, Verdict
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


class EmptyLicence(Scorer):
    licence = " "


class CommercialText(Scorer):
    commercial: Any = "yes"


class MalformedHash(Scorer):
    files = (Weight("x", "x.onnx", "MIT", True, sha256="abc"),)


class OurFileName(Scorer):
    files = (Weight("yunet", "x.onnx", "MIT", True, sha256="0" * 64),)


class UnknownFileName(Scorer):
    files = ("yunnet",)


class UnknownDefault(Scorer):
    defaults: ClassVar[Mapping[str, float]] = {"min_scor": 0.2}


class NoMapping(Scorer):
    def score(self, picture: Any, xyxy_px: Any, kps_px: Any, landmarks_px: Any) -> Any:
        return 0.9


class NoScore(Scorer):
    def score(self, picture: Any, xyxy_px: Any, kps_px: Any, landmarks_px: Any) -> Any:
        return {"yaw_deg": 1.0}


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


class GlowWithoutLicence(Glow):
    licence = ""


class GlowWithOtherReplayable(Glow):
    replayable = ("max_scor",)


class GlowWithOtherRequired(Glow):
    required_columns = ("glow_scor",)


class GlowWithOtherSetting(Glow):
    reasons = (Reason("bright", "Bright", "Bright.", limit=Limit("glow_score", "above", "glow.maximum", "glow")),)


class GlowWithOtherLimitColumn(Glow):
    reasons = (Reason("bright", "Bright", "Bright.", limit=Limit("glow_scor", "above", "glow.max_score", "glow")),)


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


class SecondScore(Scorer):
    """Fits, except for the second image."""

    second: Any = None

    def __init__(self) -> None:
        self.n_images = 0

    def score(self, picture: Any, xyxy_px: Any, kps_px: Any, landmarks_px: Any) -> Any:
        self.n_images += 1
        if self.n_images != 2:
            return {"quality_score": 0.9}
        if isinstance(self.second, Exception):
            raise self.second
        return self.second


class SecondRaises(SecondScore):
    second = ZeroDivisionError("division\nby zero")


class SecondHasOtherReason(SecondScore):
    second = ModelError("too dark", Reason("zzz"))


class SecondIsNoMapping(SecondScore):
    second = 0.9


class SecondHasNoScore(SecondScore):
    second: ClassVar[Any] = {"yaw_deg": 1.0}


class SecondIsText(SecondScore):
    second: ClassVar[Any] = {"quality_score": "low"}


class SecondIsNan(SecondScore):
    second: ClassVar[Any] = {"quality_score": float("nan")}


class SecondIsLarge(SecondScore):
    second: ClassVar[Any] = {"quality_score": 17.0}


class SecondHasOtherColumn(SecondScore):
    second: ClassVar[Any] = {"quality_score": 0.9, "quality_glow": 1.0}


def is_second(row: Mapping[str, Any]) -> bool:
    return bool(row["source_uri"].endswith("/1.jpg"))


class GlowSecond(Glow):
    columns = (Column("glow_score", "float32", "made up"), Column("glow_level", "int32", "made up"))
    batch_size = 8


class GlowSecondMeasures(GlowSecond):
    def measure(self, samples: Sequence[Sample]) -> Columns:
        if any(is_second(sample.row) for sample in samples):
            raise ValueError("no glow")
        return super().measure(samples)


class GlowSecondIsNoInteger(GlowSecond):
    def measure(self, samples: Sequence[Sample]) -> Columns:
        return {"glow_level": [1.5 if is_second(sample.row) else 1 for sample in samples]}


class GlowSecondDerives(GlowSecond):
    @staticmethod
    def derive(rows: Sequence[Row], config: Any) -> Columns:
        return {"glow_level": [{False: 1}[is_second(row)] for row in rows]}


class GlowSecondDecides(GlowSecond):
    @staticmethod
    def decide(row: Mapping[str, Any], config: Any) -> Verdict | None:
        row["no_such_column"] if is_second(row) else None
        return None


class GlowSecondIsNoVerdict(GlowSecond):
    @staticmethod
    def decide(row: Mapping[str, Any], config: Any) -> Any:
        return "dark" if is_second(row) else None


class GlowSecondHasOtherReason(GlowSecond):
    @staticmethod
    def decide(row: Mapping[str, Any], config: Any) -> Verdict | None:
        return Verdict(Reason("zzz", "Z", "Z.")) if is_second(row) else None


class GlowOfIdentities(GlowSecond):
    scope = "identity"

    @staticmethod
    def derive(rows: Sequence[Row], config: Any) -> Columns:
        return {"glow_level": [{False: 1}[is_second(row)] for row in rows]}
