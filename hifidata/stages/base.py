"""The stage: measures, then decides. And the sample that stages work on.

A stage has up to three parts, and only the first may touch a model or a pixel:

    measure(samples) -> columns       runs the model; knows no threshold
    derive(rows, config) -> columns  pure arithmetic over the surviving rows of one identity (clusters, duplicates)
    decide(row, config) -> Verdict   pure; None lets the row pass

Because everything measured is stored, ``derive`` and ``decide`` alone can replay a finished dataset.
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
"""Manifest columns by name, one value per row handed in."""


class Sample:
    """One candidate inside a worker: its manifest row, and its pixels on demand.

    Attributes:
        row: manifest columns measured so far.
        portrait_jpeg: the encoded output picture, once it was asked for; what goes into the shard.
        thumbnail: small JPEG for the report.
        extras: further members of the sample in the shard, by suffix; they travel with it.
        held_encoded: the original bytes while they are held; they travel to the next worker group.

    Args:
        row: the row to start from.
        read: returns the encoded bytes; called once, until the pixels are released.
        limits: what intake accepts.
        output_px: side of the portrait.
        jpeg_quality: of the portrait.
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
        """The original bytes; reading them records what they are. Raises IntakeError where the source cannot give them."""
        if self.held_encoded is None:
            data = self._read()
            self.row["content_sha256"] = hashlib.sha256(data).hexdigest()
            self.row["original_bytes"] = len(data)
            self.row["original_format"] = sniff(data)
            self.held_encoded = data
        return self.held_encoded

    @property
    def picture(self) -> Picture:
        """The decoded picture and its facts; decoded once until released. Raises IntakeError."""
        if self._picture is None:
            self._picture = decode(self.encoded, self.limits)
        return self._picture

    @property
    def rgb_u8(self) -> RgbU8:
        """(H, W, 3) uint8 sRGB, upright: the whole picture. Raises IntakeError."""
        return self.picture.rgb_u8

    @property
    def has_pixels(self) -> bool:
        """Whether pixels to show are at hand."""
        return self._is_replaced or any(p is not None for p in (self._picture, self._crop_u8, self._portrait_u8))

    @property
    def is_alive(self) -> bool:
        """Whether no stage has ended it."""
        return self.row.get("status") is None

    @property
    def window(self) -> CropWindow:
        """The crop in picture pixels, from the row's columns."""
        row = self.row
        return CropWindow(
            row["crop_x1_px"], row["crop_y1_px"], row["crop_x2_px"], row["crop_y2_px"], row["crop_shift_px"]
        )

    @property
    def crop_u8(self) -> RgbU8:
        """(output_px, output_px, 3) uint8 sRGB: the window, cut out and resized once until released."""
        if self._crop_u8 is None:
            self._crop_u8 = cut(self.rgb_u8, self.window, self._output_px)
        return self._crop_u8

    @property
    def portrait_u8(self) -> RgbU8:
        """(output_px, output_px, 3) uint8 sRGB: the output picture as its JPEG holds it.

        So a stage sees the same pixels in whatever worker group it runs.
        """
        if self._portrait_u8 is None:
            self._portrait_u8 = decode(self.encode_portrait(), Limits()).rgb_u8  # ours, whatever intake accepts
        return self._portrait_u8

    @property
    def shown_u8(self) -> RgbU8:
        """What a report shows: the crop, or what replaced it; the picture where there is no crop."""
        if self.row.get("crop_x1_px") is None:
            return self.rgb_u8
        return self.portrait_u8 if self._is_replaced else self.crop_u8

    def encode_portrait(self) -> bytes:
        """The JPEG of the output picture, encoded once."""
        if self.portrait_jpeg is None:
            self.portrait_jpeg = encode_jpeg(self.crop_u8, self._jpeg_quality)
        return self.portrait_jpeg

    def replace_portrait(self, rgb_u8: RgbU8) -> None:
        """Makes (output_px, output_px, 3) uint8 the output picture, and what is shown of it, in place of the old one."""
        self.portrait_jpeg = encode_jpeg(rgb_u8, self._jpeg_quality)
        self._portrait_u8 = self.thumbnail = None
        self._is_replaced = True

    def release(self, keep_encoded: bool) -> None:
        """Forgets decoded pixels, and the original bytes unless another worker group needs them; the portrait stays."""
        self._picture = self._crop_u8 = self._portrait_u8 = None
        if not keep_encoded:
            self.held_encoded = None


@dataclass(frozen=True)
class MainFace:
    """The face that counts, in pixels of the upright picture.

    Attributes:
        xyxy_px: (4,) float32.
        kps_px: (5, 2) float32.
        landmarks_px: (68, 2) float32, or None where the detector gives none.
    """

    xyxy_px: F32
    kps_px: F32
    landmarks_px: F32 | None


def main_face(row: Row) -> MainFace:
    """The face that the detect stage stored in a row."""
    landmarks = row.get("face_landmarks")
    return MainFace(
        np.array([row[f"face_{edge}_px"] for edge in ("x1", "y1", "x2", "y2")], np.float32),
        np.asarray(row["face_kps"], np.float32).reshape(5, 2),
        None if landmarks is None else np.asarray(landmarks, np.float32).reshape(-1, 2),
    )


class Stage:
    """Base of all stages; a subclass overrides the parts it has.

    Attributes:
        name: name in manifests, reports and worker groups.
        section: recipe section it reads; the name, unless another stage's section holds its config.
        title: name in a table.
        does: effect on a picture, in one sentence.
        not_run: sentence for the report where the stage did not run.
        columns: manifest columns that it fills.
        reasons: reasons that it can give.
        files: model files of a stage that loads them itself; ``self.paths`` has where they lie.
        licence: of those files and the code, for stages of other packages.
        commercial: whether that licence allows commercial use; None: not known.
        scope: "image" where rows are judged alone, "identity" where the rows of a person are judged together.
        needs: columns ``derive`` and ``decide`` read; a replay cannot judge a row in which they are null.
        replayable: settings that only ``derive`` and ``decide`` read, so that a replay may change them.
        batch_size: most samples per ``measure`` call.
        remembers: columns too costly to measure twice: of the same bytes they are taken from an earlier commit of the recipe.
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
    needs: ClassVar[tuple[str, ...]] = ()
    replayable: ClassVar[tuple[str, ...]] = ()
    batch_size: int = 1
    remembers: tuple[str, ...] = ()

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.paths = tuple(map(find_weight, self.files))

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in vars(cls) and "section" not in vars(cls):
            cls.section = cls.name

    @classmethod
    def config(cls, recipe: Recipe) -> StageConfig:
        """The recipe section that ``derive`` and ``decide`` are given."""
        return recipe.section(cls.section)

    @classmethod
    def runs(cls, recipe: Recipe) -> bool:
        """Whether the recipe asks for this stage."""
        return cls.config(recipe).runs

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Runs the model. Raises SampleError where one of the samples cannot be processed."""
        return {}

    def still_holds(self, earlier: Row) -> bool:
        """Whether the columns that the stage remembers need not be measured again."""
        return True

    @staticmethod
    def derive(rows: Sequence[Row], config: Any) -> Columns:
        """Columns that follow from stored numbers of all rows of an identity that are still alive."""
        return {}

    @staticmethod
    def decide(row: Mapping[str, Any], config: Any) -> Verdict | None:
        """None to let the row pass, otherwise why not."""
        return None
