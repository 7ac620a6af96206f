"""Faces with five points by SCRFD, the family of insightface's packs: ``det_10g``, its vendor's "RetinaFace-10GF".

One pass at 640 px as until insightface 1.0, and a second look only where a face may have been missed; the library's own
default runs every picture twice.

Source: Guo et al., Sample and Computation Redistribution for Efficient Face Detection, ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hifidata.backends.base import F32, Faces, RgbU8
from hifidata.backends.five_point import CANVAS_PX, find_faces
from hifidata.backends.onnx_model import OnnxModel
from hifidata.errors import WeightsError

STRIDES_PX = (8, 16, 32)
ANCHORS_PER_CELL = 2
MEAN, DEVIATION = 127.5, 128.0


class Scrfd:
    """Any SCRFD graph with points: nine outputs of scores, boxes and points at strides 8, 16 and 32.

    Args:
        weights: the graph; its height and width are open or 640.

    Raises:
        WeightsError: the graph takes something else, or has no points.
    """

    name = "scrfd"
    min_score = 0.5
    """insightface's own cut."""

    def __init__(self, weights: Path) -> None:
        self._graph = OnnxModel(weights, [(1, 3, CANVAS_PX, CANVAS_PX)])
        if len(self._graph.outputs) != 3 * len(STRIDES_PX):
            raise WeightsError(
                f"{weights}: expected 9 outputs (scores, boxes and points at 3 strides), got {len(self._graph.outputs)}; "
                "take an SCRFD export whose name has `kps` in it"
            )
        self._graph.try_out(
            [(ANCHORS_PER_CELL * (CANVAS_PX // stride) ** 2, size) for size in (1, 4, 10) for stride in STRIDES_PX]
        )
        self._centres_px = [_centres_px(stride) for stride in STRIDES_PX]

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        """One ``Faces`` per picture, scores up to 1, without 68 landmarks. Raises ModelError where the model breaks."""
        return [find_faces(picture, self._look) for picture in pictures]

    def _look(self, canvas: RgbU8) -> F32:
        pixels = (canvas.astype(np.float32) - MEAN) / DEVIATION
        outputs = self._graph(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))  # (1, 3, 640, 640)
        # older exports give (n, c), newer ones (1, n, c); either way scores, boxes, points, each at three strides
        flat = [output.reshape(-1, output.shape[-1]) for output in outputs]
        rows = []
        for level, (centres, stride) in enumerate(zip(self._centres_px, STRIDES_PX, strict=True)):
            likely = np.flatnonzero(flat[level] >= self.min_score)
            rows.append(_decoded(centres[likely], stride, *(output[likely] for output in flat[level::3])))
        return np.concatenate(rows)


class RetinaFace(Scrfd):
    """``det_10g`` of buffalo_l, which insightface's own model table calls RetinaFace-10GF: the paper's detector."""

    name = "retinaface"


class Scrfd2G(Scrfd):
    """SCRFD at 2.5 billion multiplications."""

    name = "scrfd_2.5g"
    min_score = (
        0.55  # with 0.5 it sees a face in one of 14 pictures of animals and objects; finds the same 279 of 279 faces
    )


class Scrfd500M(Scrfd):
    """SCRFD at 0.5 billion multiplications."""

    name = "scrfd_500m"
    min_score = 0.55  # with 0.5 it sees a second face in 2 of 279 portraits


def _centres_px(stride: int) -> F32:
    """(n, 2) x and y of every anchor, row by row, as often as there are anchors in a cell."""
    steps = np.arange(CANVAS_PX // stride, dtype=np.float32) * stride
    y, x = np.meshgrid(steps, steps, indexing="ij")
    return np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), ANCHORS_PER_CELL, axis=0)


def _decoded(centres_px: F32, stride: int, scores: F32, sides: F32, points: F32) -> F32:
    """(n, 15) rows of one level: sides (n, 4) and points (n, 10) count in strides from the centres."""
    low, high = centres_px - sides[:, :2] * stride, centres_px + sides[:, 2:] * stride
    kps = np.tile(centres_px, 5) + points * stride
    return np.concatenate([low, high, scores, kps], axis=1)
