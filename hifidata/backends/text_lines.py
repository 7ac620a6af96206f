"""Text lines on a face region, whatever finds and reads them: both PP-OCR packages are used in the same way.

Meant for the region around one face, not for whole pages: the region is brought to a fixed small size before the text
detector runs, and boxes as large as the face are discarded unread, because the detector likes to call a whole
face a character ("2", "香").

How certain it is that a line is text is the detector's score, since the recogniser does not know every script. Source of the
numbers: docs/quality.md.

Source: PP-OCR, arXiv:2009.09941.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from hifidata.backends.base import F32, RgbU8, TextRegions

DETECT_SIDE_PX = 416
"""Longest side at which text is searched."""

MIN_SIDE_PX = 32
"""Regions narrower than this at that size hold no face; the detector would enlarge them to thousands of pixels."""

FACE_HEIGHT = 0.65
FACE_ASPECT = 1.75
"""Boxes whose shorter side exceeds this share of the region's shorter side, and that are less elongated than this, are no
line of text but the face itself."""

MIN_LINE_HEIGHT = 0.03
"""Boxes lower than this share of the region's shorter side are the weave of a mask or the grain of a picture."""

READ_HEIGHT_PX = 48
"""Line height the recogniser works at: lines are cut from the region in its own resolution, but not finer than this."""

UNREAD = "[unread]"
"""Stands for a line that could not be read: a script the recogniser does not know, too faint, or no text."""

MIN_READING = 0.5
MIN_SHORT_READING = 0.8
"""A line counts as read from this confidence of the recogniser, the second where it has only two characters; one alone is read
into every eye."""

PIXEL_THRESHOLD = 0.2
MIN_BOX_SCORE = 0.25
"""Of the detector; its own defaults, 0.3 and 0.5 to 0.6, miss faint watermarks, and what counts is decided later."""

Line = tuple[F32, float]
"""A (4, 2) quad in the region's pixels and the detector's score."""


def for_detection(bgr: RgbU8) -> tuple[RgbU8, float] | None:
    """The region at the size at which text is searched, with its scale; None where there is no room for text."""
    scale = DETECT_SIDE_PX / max(bgr.shape[:2])
    if min(bgr.shape[:2]) * scale < MIN_SIDE_PX:
        return None
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=interpolation), np.uint8), scale


def lines_of(bgr: RgbU8, quads_px: Sequence[F32], scores: Sequence[float], scale: float) -> list[Line]:
    """What was found at ``scale``, in the region's own pixels, without what is as large as a face or too low for letters."""
    quads = [np.asarray(quad, np.float32) / np.float32(scale) for quad in quads_px]
    return [line for line in zip(quads, map(float, scores), strict=True) if _may_be_text(line[0], min(bgr.shape[:2]))]


def _may_be_text(quad_px: F32, region_px: int) -> bool:
    shorter_px, longer_px = sorted(sides(quad_px))
    is_face = shorter_px > FACE_HEIGHT * region_px and longer_px < FACE_ASPECT * shorter_px
    return shorter_px >= MIN_LINE_HEIGHT * region_px and not is_face


def reading_of(text: str, score: float) -> str:
    """The recogniser's reading, or ``UNREAD`` where its confidence ``score``, 0 to 1, does not suffice for its length."""
    n_characters = len("".join(text.split()))
    is_read = (score >= MIN_READING and n_characters > 2) or (score >= MIN_SHORT_READING and n_characters == 2)
    return text.strip() if is_read else UNREAD


def regions_of(lines: Sequence[Line], readings: Sequence[str]) -> TextRegions:
    """Lines with their readings, the most certain first."""
    found = [(quad, text, certainty) for (quad, certainty), text in zip(lines, readings, strict=True)]
    found.sort(key=lambda line: -line[2])
    return TextRegions(
        np.array([quad for quad, _, _ in found], np.float32).reshape(-1, 4, 2),
        tuple(text for _, text, _ in found),
        np.array([certainty for _, _, certainty in found], np.float32),
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
