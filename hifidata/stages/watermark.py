"""Text on the face. Paper, section 3.4: PaddleOCR recognises and deletes images with watermarks on faces."""

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

# Text that starts beside the face must be seen whole to be recognised.
GROWN_BY = 0.10
# Lashes, teeth, curls and whole halves of a face look like letters to the detector: a line that may be such a part, by its
# place or by being hardly longer than high, is less certain unless it is read. Lengths are in distances from the eyes to the mouth.
PART_CERTAINTY = 0.35
EYE_OFFSET, EYE_WIDTH = 0.2, 0.9
MOUTH_OFFSET, MOUTH_WIDTH = 0.2, 1.6
BROWS_OFFSET, BROWS_WIDTH, BROWS_HEIGHT = 0.3, 3.5, 0.5
LINE_ASPECT = 2.1
# The corners of a face box hold hair and background, with the lettering of walls and shirts; the oval in it is the face.
_OVAL = np.asarray(cv2.ellipse2Poly((0, 0), (1000, 1000), 0, 0, 360, 10)[:-1], np.float32) / 1000


TEXT_ON_FACE = Reason(
    "text_on_face",
    "Text on face",
    "Recognised text, such as a watermark, covers part of the face.",
    limit=Limit("text_overlap", "above", "watermark.max_text_overlap", "face covered by text"),
)


class Watermark(Stage):
    """Reads text in the region around the face only, and measures how much of the face it covers."""

    name = "watermark"
    title = "Text on face"
    does = "Text is recognised on the face region, and pictures with text on the face are dropped."
    not_run = "Text on faces was not checked: no model was set in the recipe."
    columns = (
        Column(
            "text_regions", "string", "JSON list of [text, certainty that it is text, share of the face], largest first"
        ),
        Column(
            "text_overlap",
            "float32",
            "share of the face (the oval in its box) under regions that count as text",
            "ratio",
        ),
        Column(
            "text_found", "string", "text that counts, ' | ' between regions; [unread], [letters]: found and not read"
        ),
        Column("watermark_model", "string", "text model"),
    )
    reasons = (TEXT_ON_FACE,)
    needs = ("text_regions",)
    replayable = ("max_text_overlap", "min_text_score", "min_characters")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._recognizer: TextRecognizer = registry.load("watermark", str(recipe.watermark.model), recipe.watermark)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Every region that touches the face, with its text, certainty and share of the face."""
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
        """Which regions count as text, and their share of the face."""
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
        """Text covers more of the face than the recipe allows."""
        overlap = row["text_overlap"]
        if overlap <= config.max_text_overlap:
            return None
        return Verdict(TEXT_ON_FACE, overlap, config.max_text_overlap, f"text covers {overlap:.1%} of the face")


def _counts(text: str, score: float, config: WatermarkConfig) -> bool:
    if config.min_text_score is None or score < config.min_text_score:
        return False
    return text in PLACEHOLDERS or len("".join(text.split())) >= config.min_characters


def face_region(rgb_u8: RgbU8, box: F32) -> tuple[RgbU8, F32]:
    """The part of a picture in which text is looked for, and the face box (4,) in that part's pixels."""
    height, width = rgb_u8.shape[:2]
    grow = GROWN_BY * float(max(box[2] - box[0], box[3] - box[1]))
    x1, y1 = np.floor(np.maximum(box[:2] - grow, 0)).astype(int)
    x2, y2 = np.ceil(np.minimum(box[2:] + grow, [width, height])).astype(int)
    return np.ascontiguousarray(rgb_u8[y1:y2, x1:x2]), box - np.array([x1, y1, x1, y1], np.float32)


def certainty(quad_px: F32, text: str, score: float, kps_px: F32) -> float:
    """How certain it is that a line (4, 2) on a face with these five points (5, 2) is text, from its score; both 0 to 1."""
    if text != UNREAD:
        return score
    low_px, long_px = sorted(quad_sides_px(quad_px))
    likenesses = [is_in_place_of_a_part(quad_px, kps_px), long_px < LINE_ASPECT * low_px]
    return score * PART_CERTAINTY ** sum(likenesses)


def is_in_place_of_a_part(quad_px: F32, kps_px: F32) -> bool:
    """Whether a quad (4, 2) may be an eye, the mouth, or both eyes with their brows, higher than a line over them would be."""
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
    face = np.ascontiguousarray(_OVAL * radii + centre, np.float32)
    area = max(float(cv2.contourArea(face)), 1e-6)
    regions = []
    for quad, text, score in zip(found.quads_px, found.texts, found.scores, strict=True):
        share = cv2.intersectConvexConvex(face, np.ascontiguousarray(quad, np.float32))[0] / area
        if share > 0:
            regions.append((text, round(certainty(quad, text, float(score), kps_px), 4), round(float(share), 4)))
    return sorted(regions, key=lambda region: (-region[2], region[0]))
