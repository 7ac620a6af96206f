"""Gender and age with the genderage network of insightface's model packs.

Input: (1, 3, 96, 96) float32 RGB in 0..255, the face box in an upright square. Output: (1, 3) female, male, age / 100.

Source: https://github.com/deepinsight/insightface. The paper (appendix A) predicts age with Facelib, and gender from the name
or otherwise with a model. Facelib has no direct download, so this network predicts both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from hifidata.core.errors import ModelError
from hifidata.models.protocols import F32, GenderAge, RgbU8
from hifidata.models.runtime.onnx import OnnxModel

SIDE_PX = 96
SIDE_OVER_FACE = 1.5
YEARS = 100.0
GENDERS = ("female", "male")


class InsightGenderAge:
    """Predicts gender and age of face boxes.

    Args:
        weights: ``genderage.onnx``.

    Raises:
        WeightsError: the graph has other inputs or outputs.
    """

    name = "genderage"

    def __init__(self, weights: Path) -> None:
        self._graph = OnnxModel(weights, inputs=[(None, 3, SIDE_PX, SIDE_PX)], outputs=[(3,)])

    def estimate(self, pictures: Sequence[RgbU8], xyxy_px: Sequence[F32], kps_px: Sequence[F32]) -> list[GenderAge]:
        """Predict gender and age for the main face box (4,) of each image; points are not used. Raises ModelError."""
        return [self._one(*face) for face in zip(pictures, xyxy_px, strict=True)]

    def _one(self, picture: RgbU8, xyxy_px: F32) -> GenderAge:
        chip = face_square(picture, xyxy_px).astype(np.float32)
        (output, *_) = self._graph(np.ascontiguousarray(chip.transpose(2, 0, 1)[None]))  # (1, 3)
        if output.shape != (1, 3) or not np.isfinite(output).all():
            raise ModelError(
                f"{self.name}: expected 3 finite numbers for one face, got an output of shape {output.shape}"
            )
        female, male, age = output[0].tolist()
        return GenderAge(GENDERS[male > female], round(age * YEARS))


def face_square(picture: RgbU8, xyxy_px: F32) -> RgbU8:
    """Cut out a (96, 96, 3) square of 1.5 times the box's longer side around its centre; black outside the image."""
    low, high = xyxy_px[:2].astype(np.float64), xyxy_px[2:].astype(np.float64)
    longer_px = float((high - low).max())
    if not longer_px > 0:
        raise ModelError(f"gender and age: the face box {xyxy_px.tolist()} has no area")
    scale = SIDE_PX / (SIDE_OVER_FACE * longer_px)
    shift = SIDE_PX / 2 - scale * (low + high) / 2
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return np.asarray(cv2.warpAffine(picture, matrix, (SIDE_PX, SIDE_PX), flags=cv2.INTER_LINEAR), np.uint8)
