"""Text lines on a face region, whatever finds and reads them: both PP-OCR packages are used in the same way.

Meant for the region around one face, not for whole pages: the region is brought to fixed small sizes before the text
detector runs, and boxes as large as the face are discarded unread, because the detector likes to call a whole
face a character ("2", "香").

How certain it is that a line is text is the detector's score, since the recogniser does not know every script. Source of the
numbers: docs/quality.md.

Source: PP-OCR, arXiv:2009.09941.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from hifidata.models.protocols import F32, RgbU8, TextRegions

LOOKS = ((416, 0.03), (192, 0.2))
"""Longest sides in pixels at which text is searched, each with the least height of a line, as a share of the region's shorter side:
lower boxes are the weave of a mask or the grain of a picture. The second look costs a fifth and sees letters as large as half a face.
"""

MIN_SIDE_PX = 32
"""Regions narrower than this at that size hold no face; the detector would enlarge them to thousands of pixels."""

FACE_HEIGHT = 0.65
FACE_ASPECT = 2.5
"""Boxes whose shorter side exceeds this share of the region's shorter side, and that are less elongated than this, are no
line of text but the face itself."""

READ_HEIGHT_PX = 48
"""Line height the recogniser works at: lines are cut from the region in its own resolution, but not finer than this."""

UNREAD = "[unread]"
"""Stands for a line that could not be read: a script the recogniser does not know, too faint, or no text."""

LETTERS = "[letters]"
"""Stands for letters that another network than the recogniser's found, where nothing was read."""

STAND_INS = (UNREAD, LETTERS)
"""No readings: how many characters they stand for is not known."""

MIN_READING = 0.5
MIN_SHORT_READING = 0.9
"""A line counts as read from this confidence of the recogniser, the second where it has only two characters; one alone is read
into every eye."""

SAME_LINE_IOU = 0.3
"""Quads with more in common, intersection over union, are one line, found at both sizes."""

PIXEL_THRESHOLD = 0.2
MIN_BOX_SCORE = 0.25
"""Of the detector; its own defaults, 0.3 and 0.5 to 0.6, miss faint watermarks, and what counts is decided later."""

Line = tuple[F32, float]
"""A (4, 2) quad in the region's pixels and the detector's score."""


class Look(NamedTuple):
    """A region as the detector gets it.

    Attributes:
        bgr: resized.
        scale: its size over the region's.
        min_height: of a line, as a share of the region's shorter side.
    """

    bgr: RgbU8
    scale: float
    min_height: float


def looks_at(bgr: RgbU8) -> Iterator[Look]:
    """The region at every size at which text is searched; none where there is no room for text."""
    for side_px, min_height in LOOKS:
        scale = side_px / max(bgr.shape[:2])
        if min(bgr.shape[:2]) * scale >= MIN_SIDE_PX:
            interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            sized = np.asarray(cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=interpolation), np.uint8)
            yield Look(sized, scale, min_height)


def lines_of(look: Look, quads_px: Sequence[F32], scores: Sequence[float]) -> list[Line]:
    """What was found at a look, in the region's own pixels, without what is as large as a face or too low for letters."""
    quads = [np.asarray(quad, np.float32) for quad in quads_px]
    found = zip(quads, map(float, scores), strict=True)
    return [(quad / np.float32(look.scale), score) for quad, score in found if _may_be_text(quad, look)]


def _may_be_text(quad_px: F32, look: Look) -> bool:
    shorter_px, longer_px = sorted(sides(quad_px))
    height = shorter_px / min(look.bgr.shape[:2])
    is_face = height > FACE_HEIGHT and longer_px < FACE_ASPECT * shorter_px
    return height >= look.min_height and not is_face


def reading_of(text: str, score: float) -> str:
    """The recogniser's reading, or ``UNREAD`` where its confidence ``score``, 0 to 1, does not suffice for its length."""
    n_characters = len("".join(text.split()))
    is_read = (score >= MIN_READING and n_characters > 2) or (score >= MIN_SHORT_READING and n_characters == 2)
    return text.strip() if is_read else UNREAD


def regions_of(lines: Sequence[Line], readings: Sequence[str]) -> TextRegions:
    """Lines with their readings, the most certain first; of those that lie on each other one alone, rather one that was read."""
    kept: list[tuple[F32, str, float]] = []
    found = [(quad, text, certainty) for (quad, certainty), text in zip(lines, readings, strict=True)]
    for line in sorted(found, key=lambda line: (line[1] == UNREAD, -line[2])):
        if all(_iou(line[0], better) <= SAME_LINE_IOU for better, _, _ in kept):
            kept.append(line)
    kept.sort(key=lambda line: -line[2])
    return TextRegions(
        np.array([quad for quad, _, _ in kept], np.float32).reshape(-1, 4, 2),
        tuple(text for _, text, _ in kept),
        np.array([certainty for _, _, certainty in kept], np.float32),
    )


def _iou(quad_px: F32, other_px: F32) -> float:
    shared = float(cv2.intersectConvexConvex(quad_px, other_px)[0])
    return shared / max(cv2.contourArea(quad_px) + cv2.contourArea(other_px) - shared, 1e-6)


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
