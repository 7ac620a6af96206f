"""Text lines on a face region, whatever finds and reads them: both PP-OCR packages are used in the same way.

Meant for the region around one face, not for whole pages: the region is brought to a fixed small size before the text
detector runs, and boxes that are as high as the face are discarded unread, because the detector likes to call a whole
face a character ("2", "香").

Source: PP-OCR, arXiv:2009.09941.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from hifidata.backends.base import F32, RgbU8, TextRegions

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

MIN_BOX_SCORE = 0.4
"""Of the detector; its own default of 0.5 to 0.6 misses faint watermarks, and noise is not read anyway."""

Line = tuple[F32, float]
"""A (4, 2) quad in the region's pixels and the detector's score."""


def for_detection(bgr: RgbU8, side_px: int = DETECT_SIDE_PX) -> tuple[RgbU8, float] | None:
    """The region at the size at which text is searched, and its scale; None where there is no room for text."""
    scale = side_px / max(bgr.shape[:2])
    if min(bgr.shape[:2]) * scale < MIN_SIDE_PX:
        return None
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=interpolation), np.uint8), scale


def lines_of(bgr: RgbU8, quads_px: Sequence[F32], scores: Sequence[float], scale: float) -> list[Line]:
    """What was found at ``scale``, in the region's own pixels, without what is as high as a face."""
    highest_px = MAX_LINE_HEIGHT * min(bgr.shape[:2])
    quads = [np.asarray(quad, np.float32) / np.float32(scale) for quad in quads_px]
    return [(quad, float(score)) for quad, score in zip(quads, scores, strict=True) if min(sides(quad)) <= highest_px]


def reading_of(line: Line, text: str, score: float) -> tuple[str, float]:
    """Text and its score; ("", 0) or less where it is neither readable nor certainly text."""
    quad_px, detection = line
    text = text.strip()
    if len(text) >= 2 and score >= MIN_READING:
        return text, score
    is_line = max(sides(quad_px)) >= UNREAD_MIN_ASPECT * min(sides(quad_px))
    return (UNREAD, detection) if is_line and detection >= UNREAD_MIN_DETECTION else (text, score)


def regions_of(lines: Sequence[Line], readings: Sequence[tuple[str, float]]) -> TextRegions:
    """Lines that say something."""
    said = [(quad, text, score) for (quad, _), (text, score) in zip(lines, readings, strict=True) if text]
    return TextRegions(
        np.array([quad for quad, _, _ in said], np.float32).reshape(-1, 4, 2),
        tuple(text for _, text, _ in said),
        np.array([score for _, _, score in said], np.float32),
    )


def cut_line(picture: RgbU8, quad_px: F32) -> RgbU8:
    """The text line in a (4, 2) quad, made horizontal; one much higher than wide is turned by 90 degrees."""
    width, height = sides(quad_px)
    scale = min(1.0, READ_HEIGHT_PX / max(min(width, height), 1.0))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    corners = np.array([(0, 0), (size[0], 0), size, (0, size[1])], np.float32)
    warp = cv2.getPerspectiveTransform(quad_px, corners)
    line: RgbU8 = np.asarray(
        cv2.warpPerspective(picture, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
    return np.ascontiguousarray(np.rot90(line)) if size[1] > 1.5 * size[0] else line


def sides(quad_px: F32) -> tuple[float, float]:
    """Width and height of a (4, 2) quad."""
    return float(np.linalg.norm(quad_px[1] - quad_px[0])), float(np.linalg.norm(quad_px[3] - quad_px[0]))
