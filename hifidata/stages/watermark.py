"""Text on the face. Source: paper, section 3.4: PaddleOCR recognises watermarks on faces, and these images are deleted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from hifidata.config.recipe import Recipe
from hifidata.config.sections import WatermarkConfig
from hifidata.core.reasons import Limit, Reason
from hifidata.core.schema import Column, Row, Verdict
from hifidata.models import registry
from hifidata.models.protocols import F32, RgbU8, TextRecognizer, TextRegions
from hifidata.models.text.lines import PLACEHOLDERS, UNREAD, quad_sides_px
from hifidata.stages.base import Columns, Sample, Stage, main_face

REGION_MARGIN = 0.10
"""Margin around the face box, as a share of its longer side. Text that starts beside the face must be completely visible."""

# The text detector mistakes lashes, teeth, curls and large parts of a face for letters. A line that was not recognised is less
# certain if its position or its shape suggests a facial feature. Lengths are multiples of the distance from eyes to mouth.
FEATURE_CERTAINTY = 0.35
EYE_OFFSET, EYE_WIDTH = 0.2, 0.9
MOUTH_OFFSET, MOUTH_WIDTH = 0.2, 1.6
BROWS_OFFSET, BROWS_WIDTH, BROWS_HEIGHT = 0.3, 3.5, 0.5
LINE_ASPECT = 2.1
# The ellipse inside the face box. Its corners show hair and background, which may contain text on walls and clothes.
_ELLIPSE = np.asarray(cv2.ellipse2Poly((0, 0), (1000, 1000), 0, 0, 360, 10)[:-1], np.float32) / 1000


TEXT_ON_FACE = Reason(
    "text_on_face",
    "Text on face",
    "Recognised text, such as a watermark, covers part of the face.",
    limit=Limit("text_overlap", "above", "watermark.max_text_overlap", "face covered by text"),
)


class Watermark(Stage):
    """Recognises text around the face only, and measures its share of the face."""

    name = "watermark"
    title = "Text on face"
    does = "Text is recognised in the region of the face; images with text on the face are dropped."
    not_run = "Text on faces was not checked: the recipe sets no model."
    columns = (
        Column("text_regions", "string", "JSON list of [text, text score, share of the face], largest share first"),
        Column(
            "text_overlap",
            "float32",
            "share of the face (the ellipse inside the face box) under counted text regions",
            "ratio",
        ),
        Column(
            "text_found",
            "string",
            "counted texts, separated by ' | '; [unread] and [letters]: detected but not recognised",
        ),
        Column("watermark_model", "string", "text model"),
    )
    reasons = (TEXT_ON_FACE,)
    required_columns = ("text_regions",)
    replayable = ("max_text_overlap", "min_text_score", "min_characters")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._recognizer: TextRecognizer = registry.load("watermark", str(recipe.watermark.model), recipe.watermark)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Recognise text, and return each region on the face with its text, text score and share of the face."""
        faces = [main_face(sample.row) for sample in samples]
        regions_and_boxes = [face_region(s.rgb_u8, face.xyxy_px) for s, face in zip(samples, faces, strict=True)]
        found = self._recognizer.find([region for region, _ in regions_and_boxes])
        regions = []
        for face, (_, box), text in zip(faces, regions_and_boxes, found, strict=True):
            corner_px = face.xyxy_px[:2] - box[:2]
            regions.append(_regions_on(box, face.kps_px - corner_px, text))
        return {
            "text_regions": [json.dumps(region, ensure_ascii=False) for region in regions],
            "watermark_model": [self._recognizer.name] * len(samples),
        }

    @staticmethod
    def derive(rows: Sequence[Row], config: WatermarkConfig) -> Columns:
        """Select the regions that count as text, and sum their shares of the face."""
        counted = [
            [(text, share) for text, score, share in json.loads(row["text_regions"]) if _counts(text, score, config)]
            for row in rows
        ]
        return {
            "text_overlap": [min(sum(share for _, share in regions), 1.0) for regions in counted],
            "text_found": [" | ".join(text for text, _ in regions) or None for regions in counted],
        }

    @staticmethod
    def decide(row: Mapping[str, Any], config: WatermarkConfig) -> Verdict | None:
        """Drop an image if text covers more of the face than the recipe allows."""
        overlap = row["text_overlap"]
        if overlap <= config.max_text_overlap:
            return None
        return Verdict(TEXT_ON_FACE, overlap, config.max_text_overlap, f"text covers {overlap:.1%} of the face")


def _counts(text: str, score: float, config: WatermarkConfig) -> bool:
    if config.min_text_score is None or score < config.min_text_score:
        return False
    return text in PLACEHOLDERS or len("".join(text.split())) >= config.min_characters


def face_region(rgb_u8: RgbU8, box: F32) -> tuple[RgbU8, F32]:
    """Return the region of an image to search for text, and the face box (4,) in pixels of the region."""
    height, width = rgb_u8.shape[:2]
    margin = REGION_MARGIN * float(max(box[2] - box[0], box[3] - box[1]))
    x1, y1 = np.floor(np.maximum(box[:2] - margin, 0)).astype(int)
    x2, y2 = np.ceil(np.minimum(box[2:] + margin, [width, height])).astype(int)
    return np.ascontiguousarray(rgb_u8[y1:y2, x1:x2]), box - np.array([x1, y1, x1, y1], np.float32)


def certainty(quad_px: F32, text: str, score: float, kps_px: F32) -> float:
    """Return the text score, 0 to 1, of a line. An unread line that resembles a facial feature gets a lower score.

    Args:
        quad_px: (4, 2) corners of the line.
        text: recognised text, or ``UNREAD``.
        score: score of the text model, 0 to 1.
        kps_px: (5, 2) five points of the face.
    """
    if text != UNREAD:
        return score
    low_px, long_px = sorted(quad_sides_px(quad_px))
    resemblances = [is_facial_feature(quad_px, kps_px), long_px < LINE_ASPECT * low_px]
    return score * FEATURE_CERTAINTY ** sum(resemblances)


def is_facial_feature(quad_px: F32, kps_px: F32) -> bool:
    """Return whether a quad (4, 2) may be an eye, the mouth, or both eyes with their brows.

    Eyes with brows are higher than a line of text across the eyes.
    """
    eyes, mouth = kps_px[:2], kps_px[3:].mean(axis=0)
    unit_px = max(float(np.linalg.norm(eyes.mean(axis=0) - mouth)), 1e-6)
    low, long = (side / unit_px for side in sorted(quad_sides_px(quad_px)))
    places = [(eye, EYE_OFFSET, EYE_WIDTH) for eye in eyes] + [(mouth, MOUTH_OFFSET, MOUTH_WIDTH)]
    if low >= BROWS_HEIGHT:
        places.append((eyes.mean(axis=0), BROWS_OFFSET, BROWS_WIDTH))
    centre_px = quad_px.mean(axis=0)
    return any(
        np.linalg.norm(centre_px - place_px) <= offset * unit_px and long <= width for place_px, offset, width in places
    )


def _regions_on(box: F32, kps_px: F32, found: TextRegions) -> list[tuple[str, float, float]]:
    centre, radii = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    face = np.ascontiguousarray(_ELLIPSE * radii + centre, np.float32)
    area = max(float(cv2.contourArea(face)), 1e-6)
    regions = []
    for quad, text, score in zip(found.quads_px, found.texts, found.scores, strict=True):
        share = cv2.intersectConvexConvex(face, np.ascontiguousarray(quad, np.float32))[0] / area
        if share > 0:
            regions.append((text, round(certainty(quad, text, float(score), kps_px), 4), round(float(share), 4)))
    return sorted(regions, key=lambda region: (-region[2], region[0]))
