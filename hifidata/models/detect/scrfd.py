"""SCRFD, the face detectors of insightface's model packs: faces with five points.

Input: (1, 3, h, w) float32 RGB scaled to about -1..1; h and w are multiples of 32, at most 640. Output: scores, boxes and
points at the strides 8, 16 and 32, two anchors per cell.

Source: Guo et al., Sample and Computation Redistribution for Efficient Face Detection, ICLR 2022. Our use: one pass at 640 px,
as before insightface 1.0, and a second pass only if a face may be missing. The library runs two passes for each image.
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
    """Detects faces with any SCRFD graph that has points (nine outputs).

    Args:
        weights: the graph; its height and width are open or 640.

    Raises:
        WeightsError: the graph has other inputs or outputs, or no points.
    """

    name = "scrfd"
    min_score = 0.5
    """Threshold of insightface."""

    def __init__(self, weights: Path) -> None:
        self._graph = OnnxModel(weights, inputs=[(1, 3, CANVAS_PX, CANVAS_PX)])
        if len(self._graph.outputs) != 3 * len(STRIDES_PX):
            raise WeightsError(
                f"{weights}: expected 9 outputs (scores, boxes and points at 3 strides), got {len(self._graph.outputs)}; "
                "use an SCRFD export with `kps` in its name"
            )
        self._graph.try_out(
            [(ANCHORS_PER_CELL * (CANVAS_PX // stride) ** 2, size) for size in (1, 4, 10) for stride in STRIDES_PX]
        )
        sides = next(iter(self._graph.inputs.values()))[2:]
        # The black part of a square canvas takes 29 % of the time for search results. Without it, in 423 images, no face was
        # lost or moved by more than 0.3 % of its side; one image had an additional face at its edge.
        self._step_px = max(STRIDES_PX) if sides == (None, None) else CANVAS_PX

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        """Detect the faces of each image; scores up to 1, no 68 landmarks. Raises ModelError if the model fails."""
        return [find_faces(picture, self._network, self._step_px) for picture in pictures]

    def _network(self, canvas: RgbU8) -> F32:
        outputs = self._graph(cv2.dnn.blobFromImage(canvas, 1 / DEVIATION, mean=(MEAN,) * 3))  # (1, 3, h, w)
        # old exports give (n, c), new exports (1, n, c); order: scores, boxes, points, each at three strides
        flat = [output.reshape(-1, output.shape[-1]) for output in outputs]
        rows = []
        for level, stride in enumerate(STRIDES_PX):
            likely = np.flatnonzero(flat[level] >= self.min_score)
            centres = _centres_px(likely, canvas.shape[1] // stride, stride)
            rows.append(_decoded(centres, stride, *(output[likely] for output in flat[level::3])))
        return np.concatenate(rows)


class RetinaFace(Scrfd):
    """``det_10g`` of buffalo_l, called RetinaFace-10GF in insightface's model table: the paper's detector."""

    name = "retinaface"


class Scrfd2G(Scrfd):
    """SCRFD with 2.5 billion multiplications."""

    name = "scrfd_2.5g"
    min_score = 0.55
    """At 0.5, it detects a face in one of 14 images of animals and objects. Both find 279 of 279 faces."""


class Scrfd500M(Scrfd):
    """SCRFD with 0.5 billion multiplications."""

    name = "scrfd_500m"
    min_score = 0.55
    """At 0.5, it detects a second face in 2 of 279 portraits."""


def _centres_px(anchors: NDArray[np.intp], columns: int, stride: int) -> F32:
    """Compute (n, 2) x and y of anchors by index: cells in row order, with ``ANCHORS_PER_CELL`` anchors each."""
    y, x = np.divmod(anchors // ANCHORS_PER_CELL, columns)
    return np.stack([x, y], axis=1).astype(np.float32) * stride


def _decoded(centres_px: F32, stride: int, scores: F32, sides: F32, points: F32) -> F32:
    """Decode (n, 15) rows of one stride; sides (n, 4) and points (n, 10) are offsets from the centres in strides."""
    low, high = centres_px - sides[:, :2] * stride, centres_px + sides[:, 2:] * stride
    kps = np.tile(centres_px, 5) + points * stride
    return np.concatenate([low, high, scores, kps], axis=1)
