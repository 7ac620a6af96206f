"""Text on a face region, found and read by the PP-OCR models that the ``rapidocr`` package carries.

Meant for the region around one face, not for whole pages: the region is brought to a fixed small size before the text
detector runs, and boxes that are as high as the face are discarded unread, because the detector likes to call a whole
face a character ("2", "香").

Source: PP-OCR, arXiv:2009.09941; the models here are PP-OCRv6 small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from rapidocr import RapidOCR
from rapidocr.inference_engine.onnxruntime.main import ONNXRuntimeError

from hifidata.backends.base import F32, RgbU8, TextRegions
from hifidata.errors import ModelError

DETECT_SIDE_PX = 320
"""Longest side at which text is searched."""

MIN_SIDE_PX = 32
"""Regions narrower than this at that size hold no face; the detector would enlarge them to thousands of pixels."""

MAX_LINE_HEIGHT = 0.55
"""Boxes whose shorter side exceeds this share of the region's shorter side are no line of text but the face itself."""

READ_HEIGHT_PX = 48
"""Line height the recogniser works at: lines are cut from the region in its own resolution, but not finer than this."""

UNREAD = "[unread]"
"""Stands for a line that is certainly text and could not be read: a script the recogniser does not know, or too faint."""
UNREAD_MIN_DETECTION = 0.6
UNREAD_MIN_ASPECT = 2.5
MIN_READING = 0.5

_PARAMS = {
    "Global.use_cls": False,
    "Global.log_level": "critical",
    "Global.text_score": 0.0,
    "Global.use_vertical_padding": True,
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    "Det.limit_side_len": 32,  # never enlarge: the size is decided here
    "Det.limit_type": "min",
    "Det.box_thresh": 0.4,
}


class RapidOcrText:
    """PP-OCR text detection and recognition on CPU, one thread."""

    name = "rapidocr"

    def __init__(self, detect_side_px: int = DETECT_SIDE_PX) -> None:
        self._engine = RapidOCR(params=dict(_PARAMS))
        self._detect_side_px = detect_side_px

    def find(self, pictures: Sequence[RgbU8]) -> list[TextRegions]:
        """One ``TextRegions`` per picture, every reading with its score: the caller decides what counts.

        Args:
            pictures: face regions; a margin of 10 to 15 % around the face box helps.

        Raises:
            ModelError: onnxruntime or OpenCV refused a picture.
        """
        return [self._find_one(picture) for picture in pictures]

    def _find_one(self, picture: RgbU8) -> TextRegions:
        bgr = np.ascontiguousarray(picture[..., ::-1])
        try:
            lines = [(quad, *self._read(bgr, quad, score)) for quad, score in self._detect(bgr)]
        except (cv2.error, ONNXRuntimeError) as error:
            raise ModelError(f"{self.name}: refused a region of shape {picture.shape}: {error}") from error
        lines = [line for line in lines if line[1]]
        return TextRegions(
            np.array([quad for quad, _, _ in lines], np.float32).reshape(-1, 4, 2),
            tuple(text for _, text, _ in lines),
            np.array([score for _, _, score in lines], np.float32),
        )

    def _detect(self, bgr: RgbU8) -> list[tuple[F32, float]]:
        """Quads in the picture's pixels with the detector's scores, without those that are as high as a face."""
        scale = self._detect_side_px / max(bgr.shape[:2])
        if min(bgr.shape[:2]) * scale < MIN_SIDE_PX:
            return []
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        found: Any = self._engine(
            cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=interpolation),
            use_det=True,
            use_cls=False,
            use_rec=False,
        )
        if found.boxes is None:
            return []
        quads = np.asarray(found.boxes, np.float32) / np.float32(scale)
        highest_px = MAX_LINE_HEIGHT * min(bgr.shape[:2])
        return [(q, float(s)) for q, s in zip(quads, found.scores, strict=True) if min(_sides(q)) <= highest_px]

    def _read(self, bgr: RgbU8, quad_px: F32, detection: float) -> tuple[str, float]:
        """Text and its score; ("", 0) where it is neither readable nor certainly text."""
        result: Any = self._engine(cut_line(bgr, quad_px), use_det=False, use_cls=False, use_rec=True)
        text, score = (result.txts[0].strip(), float(result.scores[0])) if result.txts else ("", 0.0)
        if len(text) >= 2 and score >= MIN_READING:
            return text, score
        is_line = max(_sides(quad_px)) >= UNREAD_MIN_ASPECT * min(_sides(quad_px))
        return (UNREAD, detection) if is_line and detection >= UNREAD_MIN_DETECTION else (text, score)


def cut_line(picture: RgbU8, quad_px: F32) -> RgbU8:
    """The text line in a (4, 2) quad, made horizontal; one much higher than wide is turned by 90 degrees."""
    width, height = _sides(quad_px)
    scale = min(1.0, READ_HEIGHT_PX / max(min(width, height), 1.0))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    corners = np.array([(0, 0), (size[0], 0), size, (0, size[1])], np.float32)
    warp = cv2.getPerspectiveTransform(quad_px, corners)
    line: RgbU8 = np.asarray(
        cv2.warpPerspective(picture, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
    return np.ascontiguousarray(np.rot90(line)) if size[1] > 1.5 * size[0] else line


def _sides(quad_px: F32) -> tuple[float, float]:
    """Width and height of a (4, 2) quad."""
    return float(np.linalg.norm(quad_px[1] - quad_px[0])), float(np.linalg.norm(quad_px[3] - quad_px[0]))
