"""Sections of the stages: meaning, unit and default of each key. ``python -m docs.reference`` writes docs/recipes.md from them.

Every section is a frozen pydantic model that refuses unknown keys. Names contain the unit. Defaults that do not depend on a
model are the values of the paper, section 3.4. Other defaults are tuned for the models in the wheel; their descriptions
name the origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from hifidata.core.base_config import BaseConfig
from hifidata.image.decode import Limits
from hifidata.models.config import (
    CaptionerConfig,
    EmbedderConfig,
    ModelFileConfig,
    ModelFolderConfig,
    OcclusionCheckerConfig,
)


class StageConfig(BaseConfig):
    """Base of the stages' sections."""

    @property
    def runs(self) -> bool:
        """Whether the stage runs: with a model, or always if the section has no key ``model``."""
        return getattr(self, "model", "") is not None


class ModelStageConfig(StageConfig):
    """Base of sections that name a model."""

    options: dict[str, Any] = Field(
        default_factory=dict, description="settings for a model of another package; the model's class declares them"
    )


class IntakeConfig(StageConfig):
    """Limits on the image files."""

    max_bytes: int = Field(32 * 2**20, gt=0, description="largest file size in bytes")
    max_pixels: int = Field(
        50_000_000, gt=0, description="largest width x height; checked in the header, before decoding"
    )
    min_side_px: int = Field(64, ge=1, description="smallest length of the shorter side")
    max_aspect: float = Field(8.0, ge=1, description="largest ratio of the longer side to the shorter side")
    formats: tuple[Literal["jpeg", "png", "webp", "bmp", "gif", "avif"], ...] = Field(
        ("jpeg", "png", "webp", "bmp", "gif", "avif"), description="accepted formats, recognised by content"
    )
    animated: Literal["first", "drop"] = Field(
        "first", description="animated and multi-picture files: use the first frame, or drop the file"
    )

    @property
    def limits(self) -> Limits:
        """The limits in the decoder's form."""
        return Limits(**self.model_dump())


class DetectConfig(ModelStageConfig, ModelFileConfig):
    """Face detection. The main face is the largest one; a second large face drops the image."""

    model: str = Field("dlib_hog", description="face detector")
    min_score: float = Field(
        0.0,
        description="faces with a lower score are ignored, on the scale of the detector. Each detector also has a built-in "
        "minimum",
    )
    other_face_min_area_ratio: float = Field(
        0.25,
        ge=0,
        le=1,
        description="smallest area of a second face, as a share of the main face's area, that drops the image. Paper: 0.0, "
        "every second face",
    )
    min_face_inside: float = Field(0.9, ge=0, le=1, description="smallest share of the face box inside the image")
    min_listed_iou: float = Field(
        0.3,
        ge=0,
        le=1,
        description="smallest intersection over union of the main face with the list's face box, if the list has one "
        "(imdb_face, url_table)",
    )


class CropConfig(StageConfig):
    """The square crop around the face."""

    side_over_face: float = Field(2.4, gt=1, description="side of the crop divided by the longer side of the face box")
    centre_up: float = Field(
        0.15, ge=-1, le=1, description="upward shift of the crop, as a share of the face box's longer side"
    )
    min_face_share: float = Field(
        0.10, ge=0, le=1, description="the face box must cover more than this share of the crop. Paper: 10 %"
    )
    min_side_px: int = Field(256, ge=1, description="smallest side of the crop in the original image. Paper: 256 px")
    output_px: int = Field(1024, ge=64, le=4096, description="side of the portrait. Paper: 1024 px")
    pad: bool = Field(
        False,
        description="true: a crop that exceeds the image is padded. false: it is moved into the image, and shrunk if "
        "necessary",
    )


class QualityConfig(ModelStageConfig, ModelFileConfig):
    """Face quality, from 0 to 1."""

    model: str | None = Field("iso29794", description="quality model; null: the stage does not run")
    min_score: float | None = Field(
        None,
        ge=0,
        le=1,
        description="smallest score; null: default of the model. The paper's 0.45 is for ModelScope FQA (modelscope_fqa)",
    )


class WatermarkConfig(ModelStageConfig, ModelFolderConfig):
    """Text on the face, such as a watermark."""

    model: str | None = Field("rapidocr", description="text model; null: the stage does not run")
    max_text_overlap: float = Field(
        0.01,
        ge=0,
        le=1,
        description="largest share of the face under text; the face is the ellipse inside the face box",
    )
    min_text_score: float | None = Field(
        None, ge=0, le=1, description="regions with a lower text score are ignored; null: default of the model"
    )
    min_characters: int = Field(
        2,
        ge=1,
        description="shorter recognised texts are ignored. Text that was detected but not recognised always counts",
    )


class OcclusionConfig(ModelStageConfig, OcclusionCheckerConfig):
    """Hands, microphones and other objects in front of the face. The wheel contains no model for this stage."""

    model: str | None = Field(None, description="occlusion model; null: the stage does not run")
    terms: tuple[str, ...] = Field(
        ("hand", "finger", "microphone", "phone", "smartphone", "cellphone", "cup", "mask"),
        description="for models that describe the image: words that drop it, matched as whole words, singular or plural",
    )
    min_score: float | None = Field(
        None,
        ge=0,
        le=1,
        description="for models that return a confidence: objects below it are ignored; null: default of the model",
    )


class RestoreConfig(ModelStageConfig):
    """Face restoration. ``verify.model`` checks that the identity is unchanged. The wheel contains no model for this stage."""

    model: str | None = Field(None, description="restoration model; null: the stage does not run")
    min_cosine: float = Field(
        0.85,
        ge=-1,
        le=1,
        description="smallest cosine of the face before and after restoration. Below it the unrestored portrait is kept",
    )


class MattingConfig(ModelStageConfig):
    """The alpha matte of the person, stored beside the portrait, for training without backgrounds. The wheel contains no model
    for this stage."""

    model: str | None = Field(None, description="matting model; null: the stage does not run")


class DedupConfig(StageConfig):
    """Near-duplicates inside one identity. The best copy is kept."""

    enabled: bool = Field(True, description="whether the stage runs")
    max_distance_bits: int = Field(
        6, ge=0, le=64, description="largest Hamming distance of two copies' perceptual hashes, of 64 bits"
    )

    @property
    def runs(self) -> bool:
        """Whether the section is enabled."""
        return self.enabled


class VerifyConfig(ModelStageConfig, EmbedderConfig):
    """Which images show the identity, by their embeddings. ``density`` refuses an identity with two groups of similar size."""

    model: str | None = Field("dlib_resnet", description="face embedder; null: the stages embed and verify do not run")
    method: Literal["paper", "density"] = Field(
        "paper",
        description="paper: k-means; the centre of the largest cluster represents the identity, even if it holds two people. "
        "density: the densest group of images that agree pairwise, or reason several_people. The recipes demo, folder, "
        "imdb_face, vggface2_hq and web set density",
    )
    k: int | None = Field(None, ge=1, description="for method paper: number of clusters; null: default of the embedder")
    min_similarity: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="the cosine to the identity's centre must be above it; null: default of the embedder for this method. The "
        "paper's 0.7 is for InsightFace (arcface)",
    )
    min_pair_similarity: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="for method density: two images with at least this cosine agree; null: default of the embedder",
    )
    max_second_group: float | None = Field(
        None,
        gt=0,
        le=1,
        description="for method density: a second group of this size or more, as a share of the first, refuses the identity; "
        "null: 0.65. A choice: 8 images beside 5 are a person with a companion, 9 beside 6 may be two people",
    )
    min_images: int = Field(
        5, ge=1, description="smallest number of kept images of an identity. Paper: 1 target and 4 references"
    )


class Face3DConfig(ModelStageConfig):
    """Shape, expression, pose and camera of a 3D face model. The wheel contains no model for this stage."""

    model: str | None = Field(
        None, description="tddfa, or mesh (468 points, no expression); null: the stage does not run"
    )


class LandmarksConfig(StageConfig):
    """68 facial landmarks in pixels of the portrait."""

    model: Literal["detector", "face3d"] | None = Field(
        "detector",
        description="detector: landmarks of the detector. face3d: landmarks of the 3D face model, for detectors with five "
        "points. null: none; hifimodel cannot train on the dataset",
    )


class AttributesConfig(ModelStageConfig):
    """Gender and age, for statistics of the dataset."""

    gender_from_name: bool = Field(
        True, description="derive the gender from the first name. Set it to false if identities have numbers as names"
    )
    model: str | None = Field(
        None,
        description="genderage (insightface) or age_gender (dlib-models, any use): estimates the age, and the gender if the name does not "
        "show it; null: no model",
    )

    @property
    def runs(self) -> bool:
        """Whether names are used or a model is set."""
        return self.gender_from_name or self.model is not None


class CaptionConfig(ModelStageConfig, CaptionerConfig):
    """The caption of a portrait."""


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
"""Classes of the stages, in the order of execution.

The order is the paper's with two exceptions. Deduplication runs before verification, and only verified images are restored.
Verification always uses the unrestored face.
"""
STAGE_NAMES = tuple(STAGES)


class StageSections(BaseConfig):
    """Sections of the stages. Each stage of ``STAGES`` with its own settings has a field."""

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
