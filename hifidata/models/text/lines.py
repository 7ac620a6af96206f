"""Shared steps of the PP-OCR models: input sizes, filtering, reading and merging of text lines on a face region.

The functions are for the region around one face, not for whole pages. The text detector runs on fixed small sizes. Boxes as
large as the face are dropped unread, because the detector often takes a whole face for a character ("2", "香").

The score of a line is the detector's score, because the recogniser does not know all scripts. docs/quality.md explains the
thresholds.

Source: PP-OCR, arXiv:2009.09941.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from hifidata.models.protocols import F32, RgbU8, TextRegions

PASSES = ((416, 0.03), (192, 0.2))
"""Longest side in pixels of each detector pass, and its minimum line height over the region's shorter side. Lower boxes are
the texture of a mask or image noise. The second pass takes a fifth of the time and finds letters as large as half a face."""

MIN_SIDE_PX = 32
"""Minimum shorter side of a pass: a narrower region shows no face, and the detector would enlarge it to thousands of pixels."""

FACE_HEIGHT = 0.65
FACE_ASPECT = 2.5
"""A box is the face itself if its shorter side exceeds this share of the region's shorter side and its aspect is below this."""

READ_HEIGHT_PX = 48
"""Line height of the recogniser's input: lines are cut out of the original region, and larger ones are reduced to this."""

UNREAD = "[unread]"
"""Placeholder for a line that could not be read: an unknown script, faint text, or no text."""

LETTERS = "[letters]"
"""Placeholder for letters that another network found and that were not read."""

PLACEHOLDERS = (UNREAD, LETTERS)
"""Texts with an unknown number of characters."""

MIN_READING = 0.5
MIN_SHORT_READING = 0.9
"""Minimum confidence of the recogniser; the second for two characters. A single character is often read in an eye."""

SAME_LINE_IOU = 0.3
"""Quads with a higher intersection over union are the same line, found in both passes."""

PIXEL_THRESHOLD = 0.2
MIN_BOX_SCORE = 0.25
"""Thresholds of the detector. Its defaults (0.3, and 0.5 to 0.6) miss faint watermarks. The stage applies its own threshold."""

Line = tuple[F32, float]
"""A (4, 2) quad in pixels of the region, and the detector's score."""


class Pass(NamedTuple):
    """A resized region for the detector.

    Attributes:
        bgr: resized region.
        scale: its size over the original size.
        min_height: minimum line height over the region's shorter side.
    """

    bgr: RgbU8
    scale: float
    min_height: float


def passes_of(bgr: RgbU8) -> Iterator[Pass]:
    """Yield the resized region for each detector pass; a region that is too narrow is left out."""
    for side_px, min_height in PASSES:
        scale = side_px / max(bgr.shape[:2])
        if min(bgr.shape[:2]) * scale >= MIN_SIDE_PX:
            interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            sized = np.asarray(cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=interpolation), np.uint8)
            yield Pass(sized, scale, min_height)


def lines_of(detector_pass: Pass, quads_px: Sequence[F32], scores: Sequence[float]) -> list[Line]:
    """Convert the quads of a pass to lines of the original region; boxes that are too low or as large as a face are dropped."""
    quads = [np.asarray(quad, np.float32) for quad in quads_px]
    found = zip(quads, map(float, scores), strict=True)
    scale = np.float32(detector_pass.scale)
    return [(quad / scale, score) for quad, score in found if _may_be_text(quad, detector_pass)]


def _may_be_text(quad_px: F32, detector_pass: Pass) -> bool:
    shorter_px, longer_px = sorted(quad_sides_px(quad_px))
    height = shorter_px / min(detector_pass.bgr.shape[:2])
    is_face = height > FACE_HEIGHT and longer_px < FACE_ASPECT * shorter_px
    return height >= detector_pass.min_height and not is_face


def reading_of(text: str, score: float) -> str:
    """Return the recognised text, or ``UNREAD`` if its confidence ``score`` (0 to 1) is too low for its length."""
    n_characters = len("".join(text.split()))
    is_read = (score >= MIN_READING and n_characters > 2) or (score >= MIN_SHORT_READING and n_characters == 2)
    return text.strip() if is_read else UNREAD


def regions_of(lines: Sequence[Line], readings: Sequence[str]) -> TextRegions:
    """Combine lines with their readings, highest score first. Of overlapping lines, one is kept; a read line has priority."""
    kept: list[tuple[F32, str, float]] = []
    found = [(quad, text, score) for (quad, score), text in zip(lines, readings, strict=True)]
    for line in sorted(found, key=lambda line: (line[1] == UNREAD, -line[2])):
        if all(_iou(line[0], better) <= SAME_LINE_IOU for better, _, _ in kept):
            kept.append(line)
    kept.sort(key=lambda line: -line[2])
    return TextRegions(
        np.array([quad for quad, _, _ in kept], np.float32).reshape(-1, 4, 2),
        tuple(text for _, text, _ in kept),
        np.array([score for _, _, score in kept], np.float32),
    )


def _iou(quad_px: F32, other_px: F32) -> float:
    shared = float(cv2.intersectConvexConvex(quad_px, other_px)[0])
    return shared / max(cv2.contourArea(quad_px) + cv2.contourArea(other_px) - shared, 1e-6)


def cut_line(picture: RgbU8, quad_px: F32) -> RgbU8:
    """Cut out the line in a (4, 2) quad and make it horizontal; a vertical line is rotated by 90 degrees."""
    width, height = quad_sides_px(quad_px)
    scale = min(1.0, READ_HEIGHT_PX / max(min(width, height), 1.0))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    corners = np.array([(0, 0), (size[0], 0), size, (0, size[1])], np.float32)
    warp = cv2.getPerspectiveTransform(quad_px, corners)
    line: RgbU8 = np.asarray(
        cv2.warpPerspective(picture, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
    return np.ascontiguousarray(np.rot90(line)) if size[1] > 1.5 * size[0] else line


def quad_sides_px(quad_px: F32) -> tuple[float, float]:
    """Return width and height of a (4, 2) quad."""
    return float(np.linalg.norm(quad_px[1] - quad_px[0])), float(np.linalg.norm(quad_px[3] - quad_px[0]))
