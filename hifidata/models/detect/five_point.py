"""Shared steps of the five-point detectors: the canvas, a second pass for large faces, and image coordinates.

The input of the networks is a canvas of at most ``CANVAS_PX`` per side with the resized image. The networks were trained on
faces that are small in the image, and miss a face that fills it. A second pass on an image with a margin finds such a face.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from hifidata.models.protocols import F32, Faces, RgbU8

CANVAS_PX = 640
MARGIN = 0.5
"""Margin of the second pass on each side, over the image's longer side."""

SECOND_PASS_BELOW = 0.6
"""A second pass runs if the best score is below this, if no face was found, or if the largest face is near the edge.
SCRFD-2.5G on 79 real faces cut out along their box: none found in the first pass, 79 with the second. With 10 % around the
box: 1 and 79; with 20 %: 62 and 79. Raw search results need 1.02 passes per image; images that a face fills need 2."""

NEAR_EDGE = 0.03
"""Distance to the edge over the image's shorter side."""

LARGE_FACE = 0.35
"""Minimum face side in the second pass, over the image's shorter side. The first pass has smaller faces in more pixels."""

NMS_IOU = 0.4
"""Threshold of non-maximum suppression, as in insightface."""

Network = Callable[[RgbU8], F32]
"""A network from a canvas (h, w, 3) uint8 to (n, 15) float32 in canvas pixels: x1, y1, x2, y2, score, five points x, y."""


def find_faces(picture: RgbU8, network: Network, step_px: int = CANVAS_PX) -> Faces:
    """Detect the faces of one image, without 68 landmarks.

    Args:
        picture: (H, W, 3) uint8.
        network: the network for a canvas of at most ``CANVAS_PX`` per side.
        step_px: the canvas sides are multiples of this; by default the canvas is a square of ``CANVAS_PX``.
    """
    found = suppress(_detected(picture, network, 0.0, step_px))
    if _may_have_missed(found, picture):
        second = _detected(picture, network, MARGIN, CANVAS_PX)
        # the second pass has fewer pixels for small faces, so the first pass decides about these
        large = (second[:, 2:4] - second[:, :2]).max(axis=1) >= LARGE_FACE * min(picture.shape[:2])
        found = suppress(np.concatenate([found, second[large]]))
    areas = np.prod(found[:, 2:4] - found[:, :2], axis=1)
    found = found[np.argsort(-areas, kind="stable")]
    return Faces(found[:, :4], found[:, 4], found[:, 5:].reshape(-1, 5, 2), None)


def suppress(found: F32) -> F32:
    """Remove (n, 15) rows that overlap a row with a higher score by more than ``NMS_IOU``; returns the best row first."""
    left = found[np.argsort(-found[:, 4], kind="stable")]
    kept = []
    while len(left):
        kept.append(left[0])
        left = left[1:][_iou(left[0], left[1:]) <= NMS_IOU]
    return np.array(kept, np.float32).reshape(-1, 15)


def _detected(picture: RgbU8, network: Network, margin: float, step_px: int) -> F32:
    canvas, scale, left, top = on_canvas(picture, margin, step_px)
    found: F32 = network(canvas).copy()
    found[:, :4] = (found[:, :4] - np.array([left, top] * 2, np.float32)) / np.float32(scale)
    found[:, 5:] = (found[:, 5:] - np.array([left, top] * 5, np.float32)) / np.float32(scale)
    return found


def on_canvas(picture: RgbU8, margin: float, step_px: int = CANVAS_PX) -> tuple[RgbU8, float, int, int]:
    """Put the resized image on a black canvas.

    Without a margin, the image is in the top left corner of the smallest canvas with sides in multiples of ``step_px``. With
    a margin, it is in the centre of a square of ``CANVAS_PX``.

    Returns:
        canvas (h, w, 3), scale, left and top of the image on the canvas in px.
    """
    height, width = picture.shape[:2]
    scale = CANVAS_PX / (max(height, width) * (1 + 2 * margin))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = ((CANVAS_PX - side) // 2 for side in size) if margin else (0, 0)
    canvas_wh = [CANVAS_PX if margin else math.ceil(side / step_px) * step_px for side in size]
    canvas = np.zeros((canvas_wh[1], canvas_wh[0], 3), np.uint8)
    # INTER_AREA finds the same faces (129 in 51 photos over 1280 px), but takes 43 ms instead of 2 ms for 12 megapixels.
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    return canvas, scale, left, top


def _may_have_missed(found: F32, picture: RgbU8) -> bool:
    """Return whether a face that fills the image may be missing or incomplete."""
    if not len(found) or found[:, 4].max() < SECOND_PASS_BELOW:
        return True
    largest = found[np.argmax(np.prod(found[:, 2:4] - found[:, :2], axis=1))]
    height, width = picture.shape[:2]
    edge = NEAR_EDGE * min(height, width)
    return bool((largest[:2] < edge).any() or largest[2] > width - edge or largest[3] > height - edge)


def _iou(box: F32, others: F32) -> F32:
    """Compute (n,) intersection over union of a row with other rows."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:4], others[:, 2:4])
    both = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(others[:, 2:4] - others[:, :2], axis=1) + np.prod(box[2:4] - box[:2])
    return np.asarray(both / np.maximum(areas - both, 1e-9), np.float32)
