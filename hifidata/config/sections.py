"""The recipe's sections, in the order of the file: what each key means, its unit and its default.

Every section is a frozen pydantic model that refuses unknown keys. Units are in the names. Defaults are the paper's
(section 3.4) where the number does not depend on a model; where it does, the default belongs to the embedded models and
its origin is written beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Union

from pydantic import Field

from hifidata.core.base_config import BaseConfig
from hifidata.fetch.config import FetcherConfig
from hifidata.image.decode import Limits
from hifidata.models.config import (
    CaptionerConfig,
    EmbedderConfig,
    ModelFileConfig,
    ModelFolderConfig,
    OcclusionCheckerConfig,
)
from hifidata.sources.search.config import SearchConfig
from hifidata.sources.url_table.columns import TableColumnsConfig, TableFormat


class StageConfig(BaseConfig):
    """Base of the stages' sections."""

    @property
    def runs(self) -> bool:
        """Whether the stage runs: where a model is named, and always where the section names none."""
        return getattr(self, "model", "") is not None


class ModelStageConfig(StageConfig):
    """Base of sections that name a model."""

    options: dict[str, Any] = Field(
        default_factory=dict, description="settings of a model of another package; its class says which"
    )


class FolderSourceConfig(BaseConfig):
    """A folder with one sub-folder per person; VGGFace2-HQ has the same shape."""

    is_remote: ClassVar[bool] = False
    kind: Literal["folder"]
    path: str = Field("", description="the folder; relative paths start at the working directory")
    licence: str | None = Field(None, description="recorded for every picture")
    already_restored: bool = Field(False, description="faces went through a restorer before; refuses restore.model")


class ShardsSourceConfig(BaseConfig):
    """WebDataset shards of jpg/png + json: our own, or any with an identity field."""

    is_remote: ClassVar[bool] = False
    kind: Literal["shards"]
    path: str = Field("", description="a tar, a folder of tars, or a glob pattern")
    identity_field: str = Field("identity_id", description="key of the sample's json that names the person")
    licence: str | None = None
    already_restored: bool = Field(False, description="faces went through a restorer before; refuses restore.model")


class UrlTableSourceConfig(BaseConfig):
    """A table with one URL per row."""

    is_remote: ClassVar[bool] = True
    kind: Literal["url_table"]
    path: str = Field("", description="the table; relative paths start at the working directory")
    format: TableFormat | None = Field(None, description="null: as its name ends; all but parquet may be gzipped")
    columns: TableColumnsConfig
    licence: str | None = Field(None, description="recorded where a row names none")


class ImdbFaceSourceConfig(BaseConfig):
    """The list of URLs that IMDb-Face is published as."""

    is_remote: ClassVar[bool] = True
    kind: Literal["imdb_face"]
    path: str = Field("", description="IMDb-Face.csv, gzipped or not")
    licence: str | None = Field(None, description="recorded for every picture; the list names none")


class NamesSourceConfig(SearchConfig):
    """People's names; search providers find pictures of each on the web."""

    is_remote: ClassVar[bool] = True
    kind: Literal["names"]


SOURCE_KINDS: Mapping[str, type[BaseConfig]] = {
    "folder": FolderSourceConfig, "shards": ShardsSourceConfig, "url_table": UrlTableSourceConfig, "imdb_face": ImdbFaceSourceConfig,
    "names": NamesSourceConfig,
}  # fmt: skip
SourceConfig = Annotated[
    Union[FolderSourceConfig, ShardsSourceConfig, UrlTableSourceConfig, ImdbFaceSourceConfig, NamesSourceConfig],  # noqa: UP007
    Field(discriminator="kind"),
]


class FetchConfig(FetcherConfig):
    """How pictures are fetched, for sources that list URLs."""

    keep_originals: bool = Field(
        False, description="keep the bytes in OUT/originals/; without them, other settings later mean crawling again"
    )
    max_waiting: int = Field(
        5000,
        ge=1,
        description="URLs of people begun and not yet taken by a worker, or not yet committed where bytes go",
    )


class IntakeConfig(StageConfig):
    """Which bytes count as a picture."""

    max_bytes: int = Field(32 * 2**20, gt=0)
    max_pixels: int = Field(50_000_000, gt=0, description="checked in the header, before decoding")
    min_side_px: int = Field(64, ge=1)
    max_aspect: float = Field(8.0, ge=1)
    formats: tuple[Literal["jpeg", "png", "webp", "bmp", "gif", "avif"], ...] = (
        "jpeg", "png", "webp", "bmp", "gif", "avif",
    )  # fmt: skip
    animated: Literal["first", "drop"] = Field("first", description="animated and multi-picture files")

    @property
    def limits(self) -> Limits:
        """The same numbers for the decoder."""
        return Limits(**self.model_dump())


class DetectConfig(ModelStageConfig, ModelFileConfig):
    """Exactly one face that counts."""

    model: str = "dlib_hog"
    min_score: float = Field(
        0.0, description="faces below it are ignored, on the detector's own scale; each has a cut of its own besides"
    )
    other_face_min_area_ratio: float = Field(
        0.25, ge=0, le=1, description="another face counts from this share of the main face's area on; the paper: 0.0"
    )
    min_face_inside: float = Field(0.9, ge=0, le=1, description="share of the face box inside the picture")
    min_listed_iou: float = Field(
        0.3, ge=0, le=1, description="overlap with the face box of the list, where it has one (imdb_face)"
    )


class CropConfig(StageConfig):
    """A square around the face."""

    side_over_face: float = Field(2.4, gt=1, description="side of the square over the face box's longer side")
    centre_up: float = Field(0.15, ge=-1, le=1, description="moves the square up by this share of the face box's side")
    min_face_share: float = Field(0.10, ge=0, le=1, description="paper: more than 10 % of the crop")
    min_side_px: int = Field(256, ge=1, description="paper: smaller pictures are dropped")
    output_px: int = Field(1024, ge=64, le=4096, description="paper: 1024 x 1024")
    pad: bool = Field(False, description="let the square leave the picture instead of moving or shrinking it")


class QualityConfig(ModelStageConfig, ModelFileConfig):
    """Face quality, 0 to 1."""

    model: str | None = "iso29794"
    min_score: float | None = Field(
        None, ge=0, le=1, description="null: the model's own default; the paper's 0.45 is FQA's"
    )


class WatermarkConfig(ModelStageConfig, ModelFolderConfig):
    """Text on the face."""

    model: str | None = "rapidocr"
    max_text_overlap: float = Field(0.01, ge=0, le=1, description="share of the face (the oval in its box) under text")
    min_text_score: float | None = Field(
        None, ge=0, le=1, description="certainty below which a line is no text; null: the model's own default"
    )
    min_characters: int = Field(2, ge=1, description="of a line that was read; others count whatever their length")


class OcclusionConfig(ModelStageConfig, OcclusionCheckerConfig):
    """Hands, microphones and other things before the face. No embedded model."""

    model: str | None = None
    terms: tuple[str, ...] = Field(
        ("hand", "finger", "microphone", "phone", "smartphone", "cellphone", "cup", "mask"),
        description="words of a description that drop the picture, matched whole, in singular or plural",
    )
    min_score: float | None = Field(
        None, ge=0, le=1, description="where the model gives a confidence; null: the model's own"
    )


class RestoreConfig(ModelStageConfig):
    """Face restoration. No embedded model. What it does to the face is judged by ``verify.model``."""

    model: str | None = None
    min_cosine: float = Field(
        0.85, ge=-1, le=1, description="of the face before and after, below it the unrestored picture stays"
    )


class MattingConfig(ModelStageConfig):
    """The person's outline beside the picture, for training that removes backgrounds. No embedded model."""

    model: str | None = None


class DedupConfig(StageConfig):
    """Near-duplicates inside one identity; the best one stays."""

    enabled: bool = True
    max_distance_bits: int = Field(6, ge=0, le=64, description="of 64 perceptual hash bits")

    @property
    def runs(self) -> bool:
        """Where it is enabled."""
        return self.enabled


class VerifyConfig(ModelStageConfig, EmbedderConfig):
    """k-means per identity: the largest cluster's centre is the person."""

    model: str | None = "dlib_resnet"
    k: int | None = Field(None, ge=1, description="null: the embedder's own default")
    min_similarity: float | None = Field(
        None, ge=-1, le=1, description="null: the embedder's own; the paper's 0.7 is InsightFace's"
    )
    min_images: int = Field(5, ge=1, description="paper: 1 target and 4 references")


class Face3DConfig(ModelStageConfig):
    """Shape, expression, pose and camera of a 3D face model. No embedded model."""

    model: str | None = Field(None, description="tddfa, or mesh: 468 points, no expression of their own")


class LandmarksConfig(StageConfig):
    """68 points in the pixels of the written picture."""

    model: Literal["detector", "face3d"] | None = Field(
        "detector",
        description="face3d: the 3D model's points, for detectors that give five; null: none, and no training on them",
    )


class AttributesConfig(ModelStageConfig):
    """Gender and age."""

    gender_from_name: bool = Field(
        True, description="guess from the person's first name; off for ids that are no names"
    )
    model: str | None = Field(None, description="gender where the name does not tell, and age: genderage")

    @property
    def runs(self) -> bool:
        """Where names may be used, or a model is named."""
        return self.gender_from_name or self.model is not None


class CaptionConfig(ModelStageConfig, CaptionerConfig):
    """The sample's text."""


STAGES: Mapping[str, str] = {
    "intake": "hifidata.stages.intake:Intake",
    "detect": "hifidata.stages.detect:Detect",
    "crop": "hifidata.stages.crop:Crop",
    "quality": "hifidata.stages.quality:Quality",
    "watermark": "hifidata.stages.watermark:Watermark",
    "occlusion": "hifidata.stages.occlusion:Occlusion",
    "embed": "hifidata.stages.embed:Embed",
    "dedup": "hifidata.stages.dedup:Dedup",
    "verify": "hifidata.stages.verify:Verify",
    "restore": "hifidata.stages.restore:Restore",
    "matting": "hifidata.stages.matting:Matting",
    "face3d": "hifidata.stages.face3d:Face3D",
    "landmarks": "hifidata.stages.landmarks:Landmarks",
    "attributes": "hifidata.stages.attributes:Attributes",
    "caption": "hifidata.stages.caption:Caption",
}
"""Stages in the order in which they run, and their classes.

The order is the paper's, except that near-duplicates are judged before the identity, and only verified pictures are restored
(identity is judged on the unrestored face either way).
"""
STAGE_NAMES = tuple(STAGES)


class StageSections(BaseConfig):
    """The stages' sections of a recipe; a field for each stage of ``STAGES`` that has settings of its own."""

    intake: IntakeConfig = IntakeConfig()
    detect: DetectConfig = DetectConfig()
    crop: CropConfig = CropConfig()
    quality: QualityConfig = QualityConfig()
    watermark: WatermarkConfig = WatermarkConfig()
    occlusion: OcclusionConfig = OcclusionConfig()
    dedup: DedupConfig = DedupConfig()
    verify: VerifyConfig = VerifyConfig()
    restore: RestoreConfig = RestoreConfig()
    matting: MattingConfig = MattingConfig()
    face3d: Face3DConfig = Face3DConfig()
    landmarks: LandmarksConfig = LandmarksConfig()
    attributes: AttributesConfig = AttributesConfig()
    caption: CaptionConfig = CaptionConfig()


class OutputConfig(BaseConfig):
    """How the dataset is written."""

    layout: Literal["identity", "packed"] = Field(
        "identity", description="one shard per person, or whole people packed"
    )
    max_shard_bytes: int = Field(1_000_000_000, gt=0, description="for the packed layout")
    jpeg_quality: int = Field(95, ge=50, le=100)
    thumbnail_px: int = Field(160, ge=0, le=512, description="pictures of the report; 0: none")


class WeightsConfig(BaseConfig):
    """Where model files come from; never changes what comes out."""

    folder: str | None = Field(None, description="used as it is, offline; null: HIFI_WEIGHTS, then the user's cache")
    download: bool = Field(False, description="fetch what is missing before the run; false: refuse to start without it")


class FailuresConfig(BaseConfig):
    """The failure budget: over it, the run ends with exit code 3."""

    max_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="failed over all candidates; and captions that a server or its model failed to give, over what is kept",
    )


class WorkerGroupConfig(BaseConfig):
    """Worker group: a run of consecutive stages that share processes and resources."""

    name: str
    stages: tuple[str, ...] = Field(min_length=1, description="in order; a stage left out joins the stage before it")
    num_cpus: float = Field(1, ge=0)
    num_gpus: float = Field(0, ge=0)
    min_workers: int = Field(1, ge=1)
    max_workers: int | None = Field(None, ge=1, description="null: as many as the machine or cluster has room for")
    runtime_env: dict[str, Any] = Field(default_factory=dict, description="Ray runtime_env for packages of its own")


class StageUseConfig(BaseConfig):
    """A stage of another package. Its settings stand in a section of its name, beside the other stages'."""

    after: str = Field(description="the stage that it follows")
    use: str = Field(description="package.module:Class, or an entry point of the group hifidata.stages")


class ExtensionConfig(BaseConfig):
    """What is noted of a stage or model of another package; it counts in the recipe's hash."""

    path: str
    package: str
    version: str
    files: dict[str, str] = Field(default_factory=dict, description="sha256 by name of the model files")


class ExecutorConfig(BaseConfig):
    """Where the stages run; never changes what comes out."""

    kind: Literal["ray", "local"] = "ray"
    workers: int | None = Field(None, ge=1, description="limit for every group; null: no limit")
    use_gpus: bool = Field(True, description="false: groups run without the GPUs they list")
    object_store_bytes: int = Field(300_000_000, ge=80_000_000, description="only where this run starts Ray itself")
