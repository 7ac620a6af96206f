"""Gender and age from the face box, with the small model of insightface's packs.

Source: paper, appendix A: age by Facelib, gender by name and then by a model. Facelib is distributed by hand only, so
insightface's model stands in for both.
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
    """An ONNX graph from (n, 3, 96, 96) RGB in 0 to 255 to (n, 3): female, male, age / 100.

    Args:
        weights: ``genderage.onnx``.

    Raises:
        WeightsError: the graph does not take faces of 96 px.
    """

    name = "genderage"

    def __init__(self, weights: Path) -> None:
        self._graph = OnnxModel(weights, [(None, 3, SIDE_PX, SIDE_PX)])
        self._graph.try_out([(3,)])

    def estimate(self, pictures: Sequence[RgbU8], xyxy_px: Sequence[F32]) -> list[GenderAge]:
        """One guess per picture for its main face's box (4,). Raises ModelError where the model breaks."""
        return [self._one(*face) for face in zip(pictures, xyxy_px, strict=True)]

    def _one(self, picture: RgbU8, xyxy_px: F32) -> GenderAge:
        chip = face_square(picture, xyxy_px).astype(np.float32)
        (output, *_) = self._graph(np.ascontiguousarray(chip.transpose(2, 0, 1)[None]))  # (1, 3)
        if output.shape != (1, 3) or not np.isfinite(output).all():
            raise ModelError(f"{self.name}: expected 3 finite numbers for one face, got an array of {output.shape}")
        female, male, age = output[0].tolist()
        return GenderAge(GENDERS[male > female], round(age * YEARS))


def face_square(picture: RgbU8, xyxy_px: F32) -> RgbU8:
    """(96, 96, 3): the square around a box's centre with 1.5 of its longer side, black where the picture ends."""
    low, high = xyxy_px[:2].astype(np.float64), xyxy_px[2:].astype(np.float64)
    longer_px = float((high - low).max())
    if not longer_px > 0:
        raise ModelError(f"gender and age: the face box {xyxy_px.tolist()} has no area")
    scale = SIDE_PX / (SIDE_OVER_FACE * longer_px)
    shift = SIDE_PX / 2 - scale * (low + high) / 2
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return np.asarray(cv2.warpAffine(picture, matrix, (SIDE_PX, SIDE_PX), flags=cv2.INTER_LINEAR), np.uint8)
