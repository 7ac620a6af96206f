"""Square crop around the face.

Source: paper, section 3.4. The crop is a square around the face box; the face covers more than 10 % of it. Crops below
256 x 256 px are dropped; the others are resized to 1024 x 1024 px.
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

ANALYSIS_PX = 256
"""Side of the reduced crop for the perceptual hash and the colour test."""
MONOCHROME_MAX_CHROMA = 4.0
"""In 8-bit levels. JPEG gives a grey image a chroma of 1 or 2; a faint sepia tone has more than 6."""


FACE_SHARE_TOO_LOW = Reason(
    "face_share_too_low",
    "Face share too low",
    "The face covers too small a share of the crop.",
    limit=Limit("face_area_ratio", "below", "crop.min_face_share", "face share of the crop"),
)
CROP_TOO_SMALL = Reason(
    "crop_too_small",
    "Crop too small",
    "The crop has too few pixels to be enlarged to the output size.",
    limit=Limit("crop_side_px", "below", "crop.min_side_px", "crop side", " px"),
)


class Crop(Stage):
    """Places the crop, and measures its perceptual hash and whether it has colour."""

    name = "crop"
    title = "Crop"
    does = "A square crop is cut around the face; the recipe sets its smallest face share and side."
    not_run = "Images were not cropped: the crop stage did not run."
    columns = (
        Column("face_area_ratio", "float32", "area of the face box over area of the crop", "ratio"),
        Column("crop_x1_px", "int32", "crop in the upright image: left edge; negative if the crop was padded"),
        Column("crop_y1_px", "int32", "crop: top edge"),
        Column("crop_x2_px", "int32", "crop: right edge"),
        Column("crop_y2_px", "int32", "crop: bottom edge"),
        Column("crop_shift_px", "int32", "distance by which the crop was moved to stay inside the image"),
        Column("is_monochrome", "bool", "the crop has no colour"),
        Column("phash", "string", "64-bit perceptual hash of the crop, 16 hex digits"),
    )
    reasons = (FACE_SHARE_TOO_LOW, CROP_TOO_SMALL)
    required_columns = ("face_area_ratio",)
    replayable = ("min_face_share",)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Compute the crop window, the face's share of it, the perceptual hash and the colour test."""
        rows = [self._place(sample) for sample in samples]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _place(self, sample: Sample) -> Row:
        config, row = self.recipe.crop, sample.row
        box = np.array([row[f"face_{edge}_px"] for edge in ("x1", "y1", "x2", "y2")], np.float32)
        face_side = float(max(box[2] - box[0], box[3] - box[1]))
        # A small face gets a larger crop instead of none; ``decide`` then checks its face share.
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
        # Both need coarse structure only. Hashing a side of 1024 px would cost more than twice as much.
        small_u8 = reduced(sample.crop_u8, ANALYSIS_PX)
        return placed | {"phash": hex16(phash64(small_u8)), "is_monochrome": _is_monochrome(small_u8)}

    @staticmethod
    def decide(row: Mapping[str, Any], config: CropConfig) -> Verdict | None:
        """Drop an image that is smaller than the smallest crop, and a face that is too small in its crop."""
        side = row["crop_x2_px"] - row["crop_x1_px"]
        if side < config.min_side_px:
            return Verdict(CROP_TOO_SMALL, side, config.min_side_px, f"the largest possible crop has {side} px")
        if row["face_area_ratio"] <= config.min_face_share:
            return Verdict(
                FACE_SHARE_TOO_LOW,
                row["face_area_ratio"],
                config.min_face_share,
                f"the face covers {row['face_area_ratio']:.1%} of a {side} px crop",
            )
        return None


def _is_monochrome(rgb_u8: RgbU8) -> bool:
    small = cv2.resize(rgb_u8, (64, 64), interpolation=cv2.INTER_AREA).astype(np.int16)
    chroma = small.max(axis=2) - small.min(axis=2)
    return bool(np.percentile(chroma, 95) <= MONOCHROME_MAX_CHROMA)
