"""What the five-point detectors share: the picture on a square canvas, a second look at faces that fill the frame, and
the way back to the picture's own pixels.

The networks see a reduced copy of at most ``CANVAS_PX``, whatever the picture's size. They were trained on faces that are
small in their picture, and miss one that fills it; on a copy with a margin around it they find it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from hifidata.models.protocols import F32, Faces, RgbU8

CANVAS_PX = 640
SECOND_LOOK_MARGIN = 0.5
"""Of the picture's longer side, on every side of it."""

SECOND_LOOK_BELOW = 0.6
"""A best score under this, no face at all, or the largest face at the picture's edge call for a second look. Of 79 real faces
cut out along their box, SCRFD-2.5G finds none at the first look and 79 with the second; with 10 % around them 1 and 79,
with 20 % 62 and 79. Raw search results take 1.02 looks a picture, small chips that a face fills 2."""

NEAR_EDGE = 0.03
"""Of the picture's shorter side."""

LARGE_FACE = 0.35
"""Of the picture's shorter side: smaller faces are left to the first look, which sees them larger."""

NMS_IOU = 0.4
"""insightface's own."""

Look = Callable[[RgbU8], F32]
"""(h, w, 3) uint8 to (n, 15) float32 in its pixels: x1, y1, x2, y2, score, then five points x, y."""


def find_faces(picture: RgbU8, look: Look, step_px: int = CANVAS_PX) -> Faces:
    """Faces of one picture; no 68 landmarks.

    Args:
        picture: (H, W, 3) uint8.
        look: a network, at a canvas of at most ``CANVAS_PX`` a side.
        step_px: the canvas's sides are multiples of this; by default it is always a square of ``CANVAS_PX``.
    """
    found = suppress(_seen(picture, look, 0.0, step_px))
    if _may_have_missed(found, picture):
        closer = _seen(picture, look, SECOND_LOOK_MARGIN, CANVAS_PX)
        # the second look is for what fills the frame; anything small there is what the first look judged better
        large = (closer[:, 2:4] - closer[:, :2]).max(axis=1) >= LARGE_FACE * min(picture.shape[:2])
        found = suppress(np.concatenate([found, closer[large]]))
    areas = np.prod(found[:, 2:4] - found[:, :2], axis=1)
    found = found[np.argsort(-areas, kind="stable")]
    return Faces(found[:, :4], found[:, 4], found[:, 5:].reshape(-1, 5, 2), None)


def suppress(found: F32) -> F32:
    """(n, 15) rows without those that overlap a better-scored one by more than ``NMS_IOU``, best first."""
    left = found[np.argsort(-found[:, 4], kind="stable")]
    kept = []
    while len(left):
        kept.append(left[0])
        left = left[1:][_iou(left[0], left[1:]) <= NMS_IOU]
    return np.array(kept, np.float32).reshape(-1, 15)


def _seen(picture: RgbU8, look: Look, margin: float, step_px: int) -> F32:
    canvas, scale, left, top = on_canvas(picture, margin, step_px)
    found: F32 = look(canvas).copy()
    found[:, :4] = (found[:, :4] - np.array([left, top] * 2, np.float32)) / np.float32(scale)
    found[:, 5:] = (found[:, 5:] - np.array([left, top] * 5, np.float32)) / np.float32(scale)
    return found


def on_canvas(picture: RgbU8, margin: float, step_px: int = CANVAS_PX) -> tuple[RgbU8, float, int, int]:
    """The picture on a black (h, w, 3) canvas, how much it was scaled, and where it lies (left, top).

    Without a margin it lies in the top left corner of the smallest canvas with sides of whole steps, with one in the
    middle of a square of ``CANVAS_PX``.
    """
    height, width = picture.shape[:2]
    scale = CANVAS_PX / (max(height, width) * (1 + 2 * margin))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = ((CANVAS_PX - side) // 2 for side in size) if margin else (0, 0)
    canvas_wh = [CANVAS_PX if margin else math.ceil(side / step_px) * step_px for side in size]
    canvas = np.zeros((canvas_wh[1], canvas_wh[0], 3), np.uint8)
    # Averaging areas finds the same faces (129 in 51 photos over 1280 px) and takes 43 ms for 12 megapixels, this 2 ms.
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    return canvas, scale, left, top


def _may_have_missed(found: F32, picture: RgbU8) -> bool:
    """Whether a face that fills the frame may be missing or half seen."""
    if not len(found) or found[:, 4].max() < SECOND_LOOK_BELOW:
        return True
    largest = found[np.argmax(np.prod(found[:, 2:4] - found[:, :2], axis=1))]
    height, width = picture.shape[:2]
    edge = NEAR_EDGE * min(height, width)
    return bool((largest[:2] < edge).any() or largest[2] > width - edge or largest[3] > height - edge)


def _iou(box: F32, others: F32) -> F32:
    """(n,) overlap over union of one row with others."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:4], others[:, 2:4])
    both = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(others[:, 2:4] - others[:, :2], axis=1) + np.prod(box[2:4] - box[:2])
    return np.asarray(both / np.maximum(areas - both, 1e-9), np.float32)
