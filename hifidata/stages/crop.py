"""Square crop around the face.

Paper, section 3.4: a larger square around the box in which the face covers more than 10 %; smaller than 256 x 256 is
discarded; the rest is resized to 1024 x 1024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from hifidata.config.sections import CropConfig
from hifidata.core.reasons import Limit, Reason
from hifidata.core.schema import Column, Row, Verdict
from hifidata.image.crop import reduced, square_window
from hifidata.image.phash import hex16, phash64
from hifidata.models.protocols import RgbU8
from hifidata.stages.base import Columns, Sample, Stage

# 8-bit levels. JPEG turns a grey picture into chroma of 1 or 2; the faintest sepia has more than 6.
LOOK_PX = 256
MONOCHROME_MAX_CHROMA = 4.0


FACE_SHARE_TOO_LOW = Reason(
    "face_share_too_low",
    "Face share too low",
    "The face fills too little of the square around it.",
    limit=Limit("face_area_ratio", "below", "crop.min_face_share", "face share of the crop"),
)
CROP_TOO_SMALL = Reason(
    "crop_too_small",
    "Crop too small",
    "The square around the face has too few pixels to be enlarged to the output size.",
    limit=Limit("crop_side_px", "below", "crop.min_side_px", "crop side", " px"),
)


class Crop(Stage):
    """Places the square, and measures what only the crop shows: its hash and whether it has colour."""

    name = "crop"
    title = "Crop"
    does = "A square is cut around the face; face share and side length have minimums."
    not_run = "Pictures were not cropped: the crop stage did not run."
    columns = (
        Column("face_area_ratio", "float32", "face box area over crop area", "ratio"),
        Column("crop_x1_px", "int32", "square crop in the oriented picture: left edge; negative where it was padded"),
        Column("crop_y1_px", "int32", "square crop: top edge"),
        Column("crop_x2_px", "int32", "square crop: right edge"),
        Column("crop_y2_px", "int32", "square crop: bottom edge"),
        Column("crop_shift_px", "int32", "distance by which the crop was moved to stay inside the picture"),
        Column("is_monochrome", "bool", "the crop has no colour"),
        Column("phash", "string", "64-bit perceptual hash of the crop, 16 hex digits"),
    )
    reasons = (FACE_SHARE_TOO_LOW, CROP_TOO_SMALL)
    needs = ("face_area_ratio",)
    replayable = ("min_face_share",)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Crop window in picture pixels and the face's share of it."""
        rows = [self._place(sample) for sample in samples]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _place(self, sample: Sample) -> Row:
        config, row = self.recipe.crop, sample.row
        box = np.array([row[f"face_{edge}_px"] for edge in ("x1", "y1", "x2", "y2")], np.float32)
        face_side = float(max(box[2] - box[0], box[3] - box[1]))
        # A small face gets a wider square rather than none: the share rule below still guards it.
        side = max(round(face_side * config.side_over_face), config.min_side_px)
        height, width = sample.rgb_u8.shape[:2]
        raised = box - np.array([0, 1, 0, 1], np.float32) * face_side * config.centre_up
        window = square_window(raised.tolist(), (width, height), side, config.pad)
        placed: Row = {
            "crop_x1_px": window.x1, "crop_y1_px": window.y1, "crop_x2_px": window.x2, "crop_y2_px": window.y2,
            "crop_shift_px": window.shift_px,
            "face_area_ratio": float((box[2] - box[0]) * (box[3] - box[1])) / max(window.x2 - window.x1, 1) ** 2,
        }  # fmt: skip
        sample.row |= placed
        # Both look at coarse structure only, and hashing 1024 pixels a side would cost more than twice as much.
        small_u8 = reduced(sample.crop_u8, LOOK_PX)
        return placed | {"phash": hex16(phash64(small_u8)), "is_monochrome": _is_monochrome(small_u8)}

    @staticmethod
    def decide(row: Mapping[str, Any], config: CropConfig) -> Verdict | None:
        """The picture is too small for the square, or the face too small for the smallest square."""
        side = row["crop_x2_px"] - row["crop_x1_px"]
        if side < config.min_side_px:
            return Verdict(CROP_TOO_SMALL, side, config.min_side_px, f"the largest square has {side} px")
        if row["face_area_ratio"] <= config.min_face_share:
            return Verdict(
                FACE_SHARE_TOO_LOW,
                row["face_area_ratio"],
                config.min_face_share,
                f"the face covers {row['face_area_ratio']:.1%} of a {side} px square",
            )
        return None


def _is_monochrome(rgb_u8: RgbU8) -> bool:
    small = cv2.resize(rgb_u8, (64, 64), interpolation=cv2.INTER_AREA).astype(np.int16)
    chroma = small.max(axis=2) - small.min(axis=2)
    return bool(np.percentile(chroma, 95) <= MONOCHROME_MAX_CHROMA)
