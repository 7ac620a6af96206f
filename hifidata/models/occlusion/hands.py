"""Hands at the face, with two MediaPipe networks: a palm detector and a hand landmark network.

Palm detector: input (1, 3, 192, 192) float32 RGB in 0..1; output for 2016 anchors: boxes with seven points, and logits.
Hand landmarks: input (1, 3, 224, 224) float32 RGB in 0..1, fingers up; output: 21 points (x, y, z) and a hand score.

The palm detector also detects cheeks, folds and masks. The landmark network rejects them with almost no error
(docs/quality.md). Microphones, cups and masks are not detected.

Source: Zhang et al., MediaPipe Hands, arXiv:2006.10214, including the anchors and the hand's cut-out. Our use: the palm
detector searches squares around the face, and two squares must show the hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hifidata.models.protocols import F32, OcclusionAnswer, RgbU8
from hifidata.models.runtime.onnx import OnnxModel

F64 = NDArray[np.float64]

PALM_PX, HAND_PX = 192, 224

ANCHOR_GRIDS = ((24, 2), (12, 6))
"""Cells per side and anchors per cell: stride 8, and three layers of stride 16."""

SEARCH_SIDES = (2.0, 2.5, 3.0)
"""Sides of the searched squares over the face's longer side. A hand counts if two squares show it: false alarms differ
between squares, hands do not. Of 357 real faces in dlib's boxes, 6 were false alarms if one of two squares is enough, and 1
if two of three squares must show the hand."""

MIN_PALM_SCORE, MAX_OVERLAP = 0.3, 0.3
"""Low thresholds of the palm detector, because the landmark network rejects false palms."""

MAX_SHRINK = 16
"""Maximum oversampling for large images. Bilinear sampling alone would skip most of their pixels."""

WRIST, MIDDLE_FINGER = 0, 2
HAND_OVER_PALM, HAND_UP = 2.6, 0.5
"""The square of a hand: its side over the palm's side, and its offset towards the fingers in palm sides."""


@dataclass(frozen=True)
class Palm:
    """A detected palm, in image pixels.

    Attributes:
        centre_px, size_px: (2,) centre and size of the upright box.
        kps_px: (7, 2) points, the wrist first.
    """

    centre_px: F64
    size_px: F64
    kps_px: F64


@dataclass(frozen=True)
class Hand:
    """Output of the landmark network for a palm.

    Attributes:
        points_px: (21, 2) in image pixels.
        score: hand score, 0 to 1.
    """

    points_px: F64
    score: float


class HandsAtFace:
    """Scores the best hand that two squares show, with at least one of its 21 points inside the face box.

    Args:
        palm_weights: palm detector.
        hand_weights: hand landmark network.

    Raises:
        WeightsError: a graph has other inputs.
    """

    name = "hands"

    def __init__(self, palm_weights: Path, hand_weights: Path) -> None:
        self._palm = OnnxModel(palm_weights, inputs=[(1, 3, PALM_PX, PALM_PX)])
        self._hand = OnnxModel(hand_weights, inputs=[(1, 3, HAND_PX, HAND_PX)])
        self._anchors = palm_anchors()

    def check(self, pictures: Sequence[RgbU8], xyxy_px: Sequence[F32]) -> list[OcclusionAnswer]:
        """Check the main face box (4,) of each image.

        Raises:
            ModelError: ONNX Runtime failed.
        """
        return [self._check_one(*pair) for pair in zip(pictures, xyxy_px, strict=True)]

    def _check_one(self, picture: RgbU8, box_px: F32) -> OcclusionAnswer:
        *first_sides, last_side = SEARCH_SIDES
        scores = [self._at_face(picture, box_px, side) for side in first_sides]
        if any(scores):  # otherwise two squares cannot show a hand, which saves the last square for most faces
            scores.append(self._at_face(picture, box_px, last_side))
        score = sorted(scores)[-2]
        if score == 0.0:
            return OcclusionAnswer("no hand at the face", (), 0.0)
        return OcclusionAnswer(f"hand at the face: {score:.2f}", ("hand",), score)

    def _at_face(self, picture: RgbU8, box_px: F32, side: float) -> float:
        """Score the best hand at the face in one square; 0 without a hand."""
        found = self.hands(picture, box_px, side)
        return max((hand.score for hand in found if touches(hand.points_px, box_px)), default=0.0)

    def hands(self, picture: RgbU8, box_px: F32, side_over_face: float) -> list[Hand]:
        """Score all palms in a square around a face box (4,), at the face or beside it."""
        centre_px = (box_px[:2] + box_px[2:]).astype(np.float64) / 2
        longer_px = max(float((box_px[2:] - box_px[:2]).max()), 1.0)
        return [self._score(picture, palm) for palm in self._palms(picture, centre_px, side_over_face * longer_px)]

    def _palms(self, picture: RgbU8, centre_px: F64, side_px: float) -> list[Palm]:
        """Detect palms in a square of the image."""
        scale = PALM_PX / side_px
        corner_px = centre_px - side_px / 2
        matrix = np.column_stack([np.eye(2) * scale, -scale * corner_px])
        raw, logits = self._palm(network_input(picture, matrix, PALM_PX))
        scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0], -100, 100).astype(np.float64)))  # (2016,)
        likely = np.flatnonzero(scores >= MIN_PALM_SCORE)
        values = raw[0, likely].reshape(-1, 9, 2).astype(np.float64)  # centre, size, seven points
        sizes = values[:, 1] / scale
        values = (values + self._anchors[likely, None] * PALM_PX) / scale + corner_px
        boxes = np.column_stack([values[:, 0] - sizes / 2, sizes])
        best = np.asarray(
            cv2.dnn.NMSBoxes(boxes.tolist(), scores[likely].tolist(), MIN_PALM_SCORE, MAX_OVERLAP), np.intp
        ).ravel()
        return [Palm(values[i, 0], sizes[i], values[i, 2:]) for i in best]

    def _score(self, picture: RgbU8, palm: Palm) -> Hand:
        """Run the landmark network on the hand of a palm, rotated so that the fingers point up."""
        matrix = hand_square(palm)
        points, score, *_ = self._hand(network_input(picture, matrix, HAND_PX))
        points_px = (points.reshape(21, 3)[:, :2] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        return Hand(points_px, float(score.item()))


def palm_anchors() -> F64:
    """Compute (2016, 2) centres of the palm detector's anchors over the side of its input, in output order."""
    layers = []
    for cells, per_cell in ANCHOR_GRIDS:
        rows, columns = np.mgrid[:cells, :cells]
        centres = (np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5) / cells
        layers.append(np.repeat(centres, per_cell, axis=0))
    return np.concatenate(layers)


def hand_square(palm: Palm) -> F64:
    """Compute the (2, 3) matrix from image pixels to the landmark network's input."""
    along = palm.kps_px[MIDDLE_FINGER] - palm.kps_px[WRIST]
    length = float(np.hypot(*along))
    up = along / length if length > 0 else np.array([0.0, -1.0])
    centre_px = palm.centre_px + HAND_UP * palm.size_px[1] * up
    scale = HAND_PX / (HAND_OVER_PALM * max(float(palm.size_px.max()), 1.0))
    turn = scale * np.array([[-up[1], up[0]], [-up[0], -up[1]]])  # rotates ``up`` to (0, -1)
    return np.column_stack([turn, HAND_PX / 2 - turn @ centre_px])


def touches(points_px: F64, box_px: F32) -> bool:
    """Return whether any of the points (n, 2) is inside the box (4,)."""
    return bool(((points_px >= box_px[:2]) & (points_px <= box_px[2:])).all(axis=1).any())


def network_input(picture: RgbU8, matrix: F64, side_px: int) -> F32:
    """Warp an image with a (2, 3) similarity to (1, 3, side, side) float32 RGB in 0..1; black outside the image."""
    shrink = int(np.clip(1 / max(float(np.hypot(*matrix[:, 0])), 1e-6), 1, MAX_SHRINK))
    finer = matrix * shrink
    finer[:, 2] += (shrink - 1) / 2  # pixel centres are integers in both images
    sampled = cv2.warpAffine(picture, finer, (side_px * shrink,) * 2, flags=cv2.INTER_LINEAR)
    region = cv2.resize(sampled, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray((region.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None])
