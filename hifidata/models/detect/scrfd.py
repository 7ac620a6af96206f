"""Faces with five points by SCRFD, the family of insightface's packs: ``det_10g``, its vendor's "RetinaFace-10GF".

One pass at 640 px as until insightface 1.0, and a second look only where a face may have been missed; the library's own
default runs every picture twice.

Source: Guo et al., Sample and Computation Redistribution for Efficient Face Detection, ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hifidata.core.errors import WeightsError
from hifidata.models.detect.five_point import CANVAS_PX, find_faces
from hifidata.models.protocols import F32, Faces, RgbU8
from hifidata.models.runtime.onnx import OnnxModel

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
        sides = next(iter(self._graph.inputs.values()))[2:]
        # The black part of a square costs 29 % of the time on search results. Without it no face of 423 pictures was
        # lost or moved by more than 0.3 % of its side; one picture showed a further face at its edge.
        self._step_px = max(STRIDES_PX) if sides == (None, None) else CANVAS_PX

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        """One ``Faces`` per picture, scores up to 1, without 68 landmarks. Raises ModelError where the model breaks."""
        return [find_faces(picture, self._look, self._step_px) for picture in pictures]

    def _look(self, canvas: RgbU8) -> F32:
        outputs = self._graph(cv2.dnn.blobFromImage(canvas, 1 / DEVIATION, mean=(MEAN,) * 3))  # (1, 3, h, w)
        # older exports give (n, c), newer ones (1, n, c); either way scores, boxes, points, each at three strides
        flat = [output.reshape(-1, output.shape[-1]) for output in outputs]
        rows = []
        for level, stride in enumerate(STRIDES_PX):
            likely = np.flatnonzero(flat[level] >= self.min_score)
            centres = _centres_px(likely, canvas.shape[1] // stride, stride)
            rows.append(_decoded(centres, stride, *(output[likely] for output in flat[level::3])))
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


def _centres_px(anchors: NDArray[np.intp], columns: int, stride: int) -> F32:
    """(n, 2) x and y of anchors by number: they go row by row, as often as there are anchors in a cell."""
    y, x = np.divmod(anchors // ANCHORS_PER_CELL, columns)
    return np.stack([x, y], axis=1).astype(np.float32) * stride


def _decoded(centres_px: F32, stride: int, scores: F32, sides: F32, points: F32) -> F32:
    """(n, 15) rows of one level: sides (n, 4) and points (n, 10) count in strides from the centres."""
    low, high = centres_px - sides[:, :2] * stride, centres_px + sides[:, 2:] * stride
    kps = np.tile(centres_px, 5) + points * stride
    return np.concatenate([low, high, scores, kps], axis=1)
