"""Hands at the face: MediaPipe's palm detector proposes, its hand landmark network says whether it is a hand and where.

The palm detector alone takes cheeks, folds and masks for palms; the second network tells them from hands nearly without
error (docs/quality.md). It knows hands only: microphones, cups and masks are not looked for.

Source: Zhang et al., MediaPipe Hands, arXiv:2006.10214, of which the anchors and the cut-out of a hand are taken.
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
"""Cells per side and anchors per cell: strides 8 and, three layers together, 16."""

SEARCH_SIDES = (2.0, 2.5, 3.0)
"""Squares that are searched, over the face's longer side; a hand counts where two of them show it. False alarms on plain
faces come and go with the square, hands stay: of 357 real faces in dlib's boxes, 6 were false alarms where one square of
two was enough, 1 where two of three must show the hand."""

MIN_PALM_SCORE, MAX_OVERLAP = 0.3, 0.3
"""Proposals are cheap: the second network judges them."""

MAX_SHRINK = 16
"""Large pictures are sampled up to this many times finer and averaged: bilinear sampling alone skips most of their pixels."""

WRIST, MIDDLE_FINGER = 0, 2
HAND_OVER_PALM, HAND_UP = 2.6, 0.5
"""The square of a hand: its side over the palm's, and how far it lies towards the fingers, in palms."""


@dataclass(frozen=True)
class Palm:
    """A proposal, in picture pixels.

    Attributes:
        centre_px, size_px: (2,) of an upright box.
        kps_px: (7, 2), the wrist first.
    """

    centre_px: F64
    size_px: F64
    kps_px: F64


@dataclass(frozen=True)
class Hand:
    """What the landmark network makes of a proposal.

    Attributes:
        points_px: (21, 2) in picture pixels.
        score: that it is a hand, 0 to 1.
    """

    points_px: F64
    score: float


class HandsAtFace:
    """Answers for the most certain hand that two squares show with at least one of its 21 points inside the face box.

    Args:
        palm_weights: palm detector, (1, 3, 192, 192).
        hand_weights: hand landmarks, (1, 3, 224, 224).

    Raises:
        WeightsError: other graphs.
    """

    name = "hands"

    def __init__(self, palm_weights: Path, hand_weights: Path) -> None:
        self._palm = OnnxModel(palm_weights, [(1, 3, PALM_PX, PALM_PX)])
        self._hand = OnnxModel(hand_weights, [(1, 3, HAND_PX, HAND_PX)])
        self._anchors = palm_anchors()

    def check(self, pictures: Sequence[RgbU8], xyxy_px: Sequence[F32]) -> list[OcclusionAnswer]:
        """One answer per picture, for the box (4,) of its main face.

        Raises:
            ModelError: the runtime refused.
        """
        return [self._check_one(*pair) for pair in zip(pictures, xyxy_px, strict=True)]

    def _check_one(self, picture: RgbU8, box_px: F32) -> OcclusionAnswer:
        *first_sides, last_side = SEARCH_SIDES
        best_of_square = [self._at_face(picture, box_px, side) for side in first_sides]
        if any(best_of_square):  # else no two squares can show a hand: most faces are spared the last one
            best_of_square.append(self._at_face(picture, box_px, last_side))
        score = sorted(best_of_square)[-2]
        if score == 0.0:
            return OcclusionAnswer("no hand at the face", (), 0.0)
        return OcclusionAnswer(f"hand at the face: {score:.2f}", ("hand",), score)

    def _at_face(self, picture: RgbU8, box_px: F32, side: float) -> float:
        """Score of the most certain hand at the face that one square shows, 0 for none."""
        found = self.hands(picture, box_px, side)
        return max((hand.score for hand in found if touches(hand.points_px, box_px)), default=0.0)

    def hands(self, picture: RgbU8, box_px: F32, side_over_face: float) -> list[Hand]:
        """Every proposal in a square around a face box (4,), at the face or beside it, with its score."""
        centre_px = (box_px[:2] + box_px[2:]).astype(np.float64) / 2
        longer_px = max(float((box_px[2:] - box_px[:2]).max()), 1.0)
        return [self._judge(picture, palm) for palm in self._palms(picture, centre_px, side_over_face * longer_px)]

    def _palms(self, picture: RgbU8, centre_px: F64, side_px: float) -> list[Palm]:
        """Proposals in a square of the picture."""
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
        chosen = np.asarray(
            cv2.dnn.NMSBoxes(boxes.tolist(), scores[likely].tolist(), MIN_PALM_SCORE, MAX_OVERLAP), np.intp
        ).ravel()
        return [Palm(values[i, 0], sizes[i], values[i, 2:]) for i in chosen]

    def _judge(self, picture: RgbU8, palm: Palm) -> Hand:
        """Runs the landmark network on the hand that a palm stands for, turned so that its fingers point up."""
        matrix = hand_square(palm)
        points, score, *_ = self._hand(network_input(picture, matrix, HAND_PX))
        points_px = (points.reshape(21, 3)[:, :2] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        return Hand(points_px, float(score.item()))


def palm_anchors() -> F64:
    """(2016, 2) centres of the palm detector's anchors, in shares of its square, in the order of its outputs."""
    layers = []
    for cells, per_cell in ANCHOR_GRIDS:
        rows, columns = np.mgrid[:cells, :cells]
        centres = (np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5) / cells
        layers.append(np.repeat(centres, per_cell, axis=0))
    return np.concatenate(layers)


def hand_square(palm: Palm) -> F64:
    """(2, 3) matrix that takes picture pixels into the landmark network's square."""
    along = palm.kps_px[MIDDLE_FINGER] - palm.kps_px[WRIST]
    length = float(np.hypot(*along))
    up = along / length if length > 0 else np.array([0.0, -1.0])
    centre_px = palm.centre_px + HAND_UP * palm.size_px[1] * up
    scale = HAND_PX / (HAND_OVER_PALM * max(float(palm.size_px.max()), 1.0))
    turn = scale * np.array([[-up[1], up[0]], [-up[0], -up[1]]])  # takes ``up`` to (0, -1)
    return np.column_stack([turn, HAND_PX / 2 - turn @ centre_px])


def touches(points_px: F64, box_px: F32) -> bool:
    """Whether one of the points (n, 2) lies inside the box (4,)."""
    return bool(((points_px >= box_px[:2]) & (points_px <= box_px[2:])).all(axis=1).any())


def network_input(picture: RgbU8, matrix: F64, side_px: int) -> F32:
    """(1, 3, side, side) float32 in 0 to 1: the picture under a (2, 3) similarity, black where it ends."""
    shrink = int(np.clip(1 / max(float(np.hypot(*matrix[:, 0])), 1e-6), 1, MAX_SHRINK))
    finer = matrix * shrink
    finer[:, 2] += (shrink - 1) / 2  # pixel centres have whole numbers on both sides
    sampled = cv2.warpAffine(picture, finer, (side_px * shrink,) * 2, flags=cv2.INTER_LINEAR)
    region = cv2.resize(sampled, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray((region.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None])
