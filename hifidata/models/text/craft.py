"""Text on a face region as PP-OCR reads it, and letters that CRAFT finds: more of small, faint and foreign writing, for more time.

CRAFT says of every place how likely it is the middle of a letter. Likely places side by side are a region here, as certain as
the likeliest of them. Regions take the place of the lines that PP-OCR finds and cannot read, which add nothing to them; nor does
CRAFT's second map, of the places between the letters of a word.

Source: CRAFT, arXiv:1904.01941, in ONNX form; where the numbers come from: docs/quality.md.
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
"""Longest side at which letters are searched; both sides are multiples of ``STEP_PX``."""

STEP_PX = 32
_MEAN, _DEVIATION = np.array([(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)], np.float32)

MIN_LIKELIHOOD = 0.1
"""Places above it, side by side, are one region."""

SAME_SHARE = 0.5
"""Letters of which more than this lies on a line that was read are that line's."""

_TRIED_PX = 64


class RapidOcrCraft:
    """Reads with ``RapidOcrText``, finds letters with CRAFT; one thread; where it computes: ``providers``.

    Args:
        weights: the CRAFT graph, from (1, 3, H, W) to two maps of half that size; they may be the first or the last axis.

    Raises:
        WeightsError: no such graph, or one for pictures of a fixed size.
    """

    name = "rapidocr_craft"

    def __init__(self, weights: Path) -> None:
        self._reader = RapidOcrText()
        self._graph = OnnxModel(weights, [(1, 3, _TRIED_PX, _TRIED_PX)])
        half = _TRIED_PX // 2
        shape = self._graph.try_out([(None, None, None)])[0].shape
        if None not in next(iter(self._graph.inputs.values())):
            raise WeightsError(
                f"{weights}: takes pictures of one size only; export it with open height and width ({right_file(weights)})"
            )
        if shape not in ((1, 2, half, half), (1, half, half, 2)):
            raise WeightsError(
                f"{weights}: another graph than expected: it gives {list(shape)} for {_TRIED_PX} x {_TRIED_PX} pixels, expected two "
                f"maps of {half} x {half}; {right_file(weights)}"
            )
        self._maps_are_last = shape[-1] == 2

    def find(self, pictures: Sequence[RgbU8]) -> list[TextRegions]:
        """One ``TextRegions`` per picture: the lines that were read, and ``LETTERS`` elsewhere.

        Raises:
            ModelError: a network refused a picture.
        """
        read = self._reader.find(pictures)
        return [merged(lines, self._letters(picture)) for lines, picture in zip(read, pictures, strict=True)]

    def _letters(self, picture: RgbU8) -> TextRegions:
        scale = SIDE_PX / max(picture.shape[:2])
        size = [max(STEP_PX, round(side * scale / STEP_PX) * STEP_PX) for side in picture.shape[1::-1]]
        sized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        normal = (sized.astype(np.float32) / 255 - _MEAN) / _DEVIATION
        maps = self._graph(np.ascontiguousarray(normal.transpose(2, 0, 1)[None]))[0][0]
        return regions_of(maps[..., 0] if self._maps_are_last else maps[0], picture.shape[:2])


def regions_of(likelihood: F32, shape: Sequence[int]) -> TextRegions:
    """Where a map (h, w) of 0 to 1 says that letters are, in pixels of a picture of this height and width.

    The quads run through the centres of the outermost places.
    """
    pixel = np.array(shape[::-1], np.float32) / likelihood.shape[::-1]
    _, labels, extents, _ = cv2.connectedComponentsWithStats((likelihood > MIN_LIKELIHOOD).astype(np.uint8))
    quads, scores = [], []
    for label, (left, top, width, height, _) in enumerate(extents[1:], start=1):
        part = np.s_[top : top + height, left : left + width]
        is_place = labels[part] == label
        xy = np.argwhere(is_place)[:, ::-1] + (left + 0.5, top + 0.5)
        quads.append(cv2.boxPoints(cv2.minAreaRect((xy * pixel).astype(np.float32))))
        scores.append(min(float(likelihood[part][is_place].max()), 1.0))
    return TextRegions(
        np.array(quads, np.float32).reshape(-1, 4, 2), (LETTERS,) * len(quads), np.array(scores, np.float32)
    )


def merged(lines: TextRegions, letters: TextRegions) -> TextRegions:
    """The lines that were read, at least as certain as the letters on them, and the letters elsewhere."""
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
