"""Base class of the stages, and the sample that they process.

A stage has up to three parts. Only the first part may use a model or pixels:

    measure(samples) -> columns      runs the model; uses no threshold
    derive(rows, config) -> columns  pure arithmetic over the alive rows of one identity (clusters, duplicates)
    decide(row, config) -> Verdict   pure; None lets the row pass

The manifest stores all measured columns. So ``derive`` and ``decide`` can replay a finished dataset without models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from hifidata.config.recipe import Recipe
from hifidata.config.sections import StageConfig
from hifidata.core.reasons import Reason
from hifidata.core.schema import Column, Row, Verdict
from hifidata.image.crop import CropWindow, cut
from hifidata.image.decode import Limits, Picture, decode
from hifidata.image.encode import encode_jpeg
from hifidata.image.headers.sniff import sniff
from hifidata.models.protocols import F32, RgbU8
from hifidata.weights.catalogue import Weight
from hifidata.weights.find import find_weight

Columns = dict[str, list[Any]]
"""Manifest columns by name, with one value per sample or row."""


class Sample:
    """One candidate inside a worker: its manifest row, and its pixels on demand.

    Attributes:
        row: manifest columns measured so far.
        portrait_jpeg: encoded portrait for the shard; None until it is encoded.
        thumbnail: small JPEG for the report.
        extras: further members of the sample in the shard, by suffix. They are sent to the next worker group.
        held_encoded: original bytes until they are released. They are sent to the next worker group.

    Args:
        row: initial manifest row.
        read: returns the original bytes; called once until they are released.
        limits: limits of the intake stage.
        output_px: side of the portrait.
        jpeg_quality: JPEG quality of the portrait.
    """

    def __init__(
        self,
        row: Row,
        read: Callable[[], bytes],
        limits: Limits,
        output_px: int,
        jpeg_quality: int = 95,
    ) -> None:
        self.row = row
        self.limits = limits
        self.portrait_jpeg: bytes | None = None
        self.thumbnail: bytes | None = None
        self.extras: dict[str, bytes] = {}
        self.held_encoded: bytes | None = None
        self._read = read
        self._output_px = output_px
        self._jpeg_quality = jpeg_quality
        self._picture: Picture | None = None
        self._crop_u8: RgbU8 | None = None
        self._portrait_u8: RgbU8 | None = None
        self._is_replaced = False

    @property
    def encoded(self) -> bytes:
        """Original bytes; the first read records hash, size and format. Raises IntakeError if the source cannot read them."""
        if self.held_encoded is None:
            data = self._read()
            self.row["content_sha256"] = hashlib.sha256(data).hexdigest()
            self.row["original_bytes"] = len(data)
            self.row["original_format"] = sniff(data)
            self.held_encoded = data
        return self.held_encoded

    @property
    def picture(self) -> Picture:
        """Decoded image with its size and format; decoded once until released. Raises IntakeError."""
        if self._picture is None:
            self._picture = decode(self.encoded, self.limits)
        return self._picture

    @property
    def rgb_u8(self) -> RgbU8:
        """Whole image, upright: (H, W, 3) uint8 sRGB. Raises IntakeError."""
        return self.picture.rgb_u8

    @property
    def has_pixels(self) -> bool:
        """Whether decoded pixels for a thumbnail are available."""
        return self._is_replaced or any(p is not None for p in (self._picture, self._crop_u8, self._portrait_u8))

    @property
    def is_alive(self) -> bool:
        """Whether no stage has dropped the candidate or failed on it."""
        return self.row.get("status") is None

    @property
    def window(self) -> CropWindow:
        """Crop window in image pixels, from the row's columns."""
        row = self.row
        return CropWindow(
            row["crop_x1_px"], row["crop_y1_px"], row["crop_x2_px"], row["crop_y2_px"], row["crop_shift_px"]
        )

    @property
    def crop_u8(self) -> RgbU8:
        """Crop at output size: (output_px, output_px, 3) uint8 sRGB. It is computed once until released."""
        if self._crop_u8 is None:
            self._crop_u8 = cut(self.rgb_u8, self.window, self._output_px)
        return self._crop_u8

    @property
    def portrait_u8(self) -> RgbU8:
        """Portrait, decoded from its JPEG: (output_px, output_px, 3) uint8 sRGB.

        So a stage sees the same pixels in every worker group.
        """
        if self._portrait_u8 is None:
            self._portrait_u8 = decode(self.encode_portrait(), Limits()).rgb_u8  # the recipe's limits do not apply here
        return self._portrait_u8

    @property
    def shown_u8(self) -> RgbU8:
        """Pixels for the thumbnail: the crop, the restored portrait, or the whole image if there is no crop."""
        if self.row.get("crop_x1_px") is None:
            return self.rgb_u8
        return self.portrait_u8 if self._is_replaced else self.crop_u8

    def encode_portrait(self) -> bytes:
        """Encode the portrait as JPEG, once, and return the bytes."""
        if self.portrait_jpeg is None:
            self.portrait_jpeg = encode_jpeg(self.crop_u8, self._jpeg_quality)
        return self.portrait_jpeg

    def replace_portrait(self, rgb_u8: RgbU8) -> None:
        """Replace the portrait, and the source of the thumbnail, by (output_px, output_px, 3) uint8 pixels."""
        self.portrait_jpeg = encode_jpeg(rgb_u8, self._jpeg_quality)
        self._portrait_u8 = self.thumbnail = None
        self._is_replaced = True

    def release(self, keep_encoded: bool) -> None:
        """Release decoded pixels, and the original bytes unless ``keep_encoded``. The encoded portrait remains."""
        self._picture = self._crop_u8 = self._portrait_u8 = None
        if not keep_encoded:
            self.held_encoded = None


@dataclass(frozen=True)
class MainFace:
    """The main face, in pixels of the upright image.

    Attributes:
        xyxy_px: (4,) float32.
        kps_px: (5, 2) float32.
        landmarks_px: (68, 2) float32, or None if the detector has no landmarks.
    """

    xyxy_px: F32
    kps_px: F32
    landmarks_px: F32 | None


def main_face(row: Row) -> MainFace:
    """Return the main face from the columns of the detect stage."""
    landmarks = row.get("face_landmarks")
    return MainFace(
        np.array([row[f"face_{edge}_px"] for edge in ("x1", "y1", "x2", "y2")], np.float32),
        np.asarray(row["face_kps"], np.float32).reshape(5, 2),
        None if landmarks is None else np.asarray(landmarks, np.float32).reshape(-1, 2),
    )


class Stage:
    """Base class of all stages. A subclass overrides the parts that it has.

    Attributes:
        name: name in manifests, reports and worker groups.
        section: recipe section of the stage; by default the section with the stage's name.
        title: name in tables.
        does: effect of the stage, in one sentence.
        not_run: sentence for the report if the stage did not run.
        columns: manifest columns that the stage fills.
        reasons: reasons for which the stage drops a candidate or fails on it.
        files: model files that the stage loads itself; ``self.paths`` holds their paths.
        licence: licence of the files and the code, for stages of other packages.
        commercial: whether the licence allows commercial use; None: unknown.
        scope: "image" if rows are judged one by one, "identity" if the rows of an identity are judged together.
        required_columns: columns that ``derive`` and ``decide`` read. A replay cannot judge a row in which one is null.
        replayable: settings that only ``derive`` and ``decide`` read. A replay may change them.
        batch_size: most samples per ``measure`` call.
        reusable_columns: expensive columns. For the same bytes, they are copied from an earlier commit with this recipe.
    """

    name: ClassVar[str]
    section: ClassVar[str]
    title: ClassVar[str]
    does: ClassVar[str]
    not_run: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]] = ()
    reasons: ClassVar[tuple[Reason, ...]] = ()
    files: ClassVar[tuple[str | Weight, ...]] = ()
    licence: ClassVar[str] = ""
    commercial: ClassVar[bool | None] = None
    scope: ClassVar[Literal["image", "identity"]] = "image"
    required_columns: ClassVar[tuple[str, ...]] = ()
    replayable: ClassVar[tuple[str, ...]] = ()
    batch_size: int = 1
    reusable_columns: tuple[str, ...] = ()

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.paths = tuple(map(find_weight, self.files))

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in vars(cls) and "section" not in vars(cls):
            cls.section = cls.name

    @classmethod
    def config(cls, recipe: Recipe) -> StageConfig:
        """Return the recipe section for ``derive`` and ``decide``."""
        return recipe.section(cls.section)

    @classmethod
    def runs(cls, recipe: Recipe) -> bool:
        """Return whether the recipe enables this stage."""
        return cls.config(recipe).runs

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Run the model and return its columns. Raises SampleError if a sample cannot be processed."""
        return {}

    def is_reusable(self, earlier: Row) -> bool:
        """Return whether the ``reusable_columns`` of an earlier row may be copied."""
        return True

    @staticmethod
    def derive(rows: Sequence[Row], config: Any) -> Columns:
        """Compute columns from the stored columns of all alive rows of an identity."""
        return {}

    @staticmethod
    def decide(row: Mapping[str, Any], config: Any) -> Verdict | None:
        """Return None to let the row pass, otherwise the verdict against it."""
        return None
