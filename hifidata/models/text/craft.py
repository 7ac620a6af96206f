"""Text lines of PP-OCR and letters of CRAFT on a face region. CRAFT finds more small, faint and foreign text, but is slower.

Input of CRAFT: (1, 3, H, W) float32 RGB with ImageNet's normalisation, sides in multiples of 32. Output: two maps of half the
size: the probability of letter centres, and of the gaps between letters.

Source: Baek et al., CRAFT, arXiv:1904.01941. Our use: adjacent pixels of the letter map form a region, with the highest
probability as score. The gap map and PP-OCR's unread lines are not used, because they add nothing (docs/quality.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from hifidata.core.errors import WeightsError
from hifidata.models.protocols import F32, RgbU8, TextRegions
from hifidata.models.runtime.onnx import OnnxModel
from hifidata.models.text.lines import LETTERS, UNREAD
from hifidata.models.text.rapidocr import RapidOcrText
from hifidata.weights.messages import right_file

SIDE_PX = 608
"""Longest side of the input; both sides are multiples of ``STEP_PX``."""

STEP_PX = 32
_MEAN, _DEVIATION = np.array([(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)], np.float32)

MIN_PROBABILITY = 0.1
"""Adjacent pixels of the letter map above this form a region."""

SAME_SHARE = 0.5
"""A letter region belongs to a read line if more than this share of it is inside the line."""

_TRIAL_PX = 64


class RapidOcrCraft:
    """Reads text with ``RapidOcrText`` and finds letters with CRAFT, in one thread.

    Args:
        weights: the CRAFT graph; the maps may be the first or the last axis of its output.

    Raises:
        WeightsError: another graph, or a graph with a fixed input size.
    """

    name = "rapidocr_craft"

    def __init__(self, weights: Path) -> None:
        self._reader = RapidOcrText()
        self._graph = OnnxModel(weights, inputs=[(1, 3, _TRIAL_PX, _TRIAL_PX)], outputs=[(None, None, None)])
        half = _TRIAL_PX // 2
        shape = self._graph.blank_outputs[0].shape
        if None not in next(iter(self._graph.inputs.values())):
            raise WeightsError(
                f"{weights}: has a fixed input size; export the model with open height and width ({right_file(weights)})"
            )
        if shape not in ((1, 2, half, half), (1, half, half, 2)):
            raise WeightsError(
                f"{weights}: another graph than expected: for {_TRIAL_PX} x {_TRIAL_PX} pixels it gives {list(shape)}, expected two "
                f"maps of {half} x {half}; {right_file(weights)}"
            )
        self._maps_are_last = shape[-1] == 2

    def find(self, pictures: Sequence[RgbU8]) -> list[TextRegions]:
        """Find the text of each image: read lines, and ``LETTERS`` for letters outside of them.

        Raises:
            ModelError: a network failed on an image.
        """
        read = self._reader.find(pictures)
        return [merge(lines, self._letters(picture)) for lines, picture in zip(read, pictures, strict=True)]

    def _letters(self, picture: RgbU8) -> TextRegions:
        scale = SIDE_PX / max(picture.shape[:2])
        size = [max(STEP_PX, round(side * scale / STEP_PX) * STEP_PX) for side in picture.shape[1::-1]]
        sized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        normal = (sized.astype(np.float32) / 255 - _MEAN) / _DEVIATION
        maps = self._graph(np.ascontiguousarray(normal.transpose(2, 0, 1)[None]))[0][0]
        return regions_of(maps[..., 0] if self._maps_are_last else maps[0], picture.shape[:2])


def regions_of(probability: F32, shape: Sequence[int]) -> TextRegions:
    """Convert a letter map to text regions; their quads pass through the centres of the outermost pixels.

    Args:
        probability: (h, w) letter map, 0 to 1.
        shape: height and width of the image.
    """
    pixel = np.array(shape[::-1], np.float32) / probability.shape[::-1]
    _, labels, extents, _ = cv2.connectedComponentsWithStats((probability > MIN_PROBABILITY).astype(np.uint8))
    quads, scores = [], []
    for label, (left, top, width, height, _) in enumerate(extents[1:], start=1):
        part = np.s_[top : top + height, left : left + width]
        is_region = labels[part] == label
        xy = np.argwhere(is_region)[:, ::-1] + (left + 0.5, top + 0.5)
        quads.append(cv2.boxPoints(cv2.minAreaRect((xy * pixel).astype(np.float32))))
        scores.append(min(float(probability[part][is_region].max()), 1.0))
    return TextRegions(
        np.array(quads, np.float32).reshape(-1, 4, 2), (LETTERS,) * len(quads), np.array(scores, np.float32)
    )


def merge(lines: TextRegions, letters: TextRegions) -> TextRegions:
    """Combine read lines with letters outside of them. A line gets the score of its letters if that is higher."""
    is_read = np.array([text != UNREAD for text in lines.texts], bool)
    quads, scores = lines.quads_px[is_read], lines.scores[is_read].copy()
    is_elsewhere = np.ones(len(letters.texts), bool)
    for number, (quad, score) in enumerate(zip(letters.quads_px, letters.scores, strict=True)):
        area = max(cv2.contourArea(quad), 1e-6)
        is_on = np.array([cv2.intersectConvexConvex(quad, line)[0] > SAME_SHARE * area for line in quads], bool)
        scores[is_on] = np.maximum(scores[is_on], score)
        is_elsewhere[number] = not is_on.any()
    return TextRegions(
        np.concatenate([quads, letters.quads_px[is_elsewhere]]),
        tuple(text for text in lines.texts if text != UNREAD) + (LETTERS,) * int(is_elsewhere.sum()),
        np.concatenate([scores, letters.scores[is_elsewhere]]),
    )
