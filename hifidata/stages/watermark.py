"""Text on the face. Paper, section 3.4: PaddleOCR recognises and deletes images with watermarks on faces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from hifidata import backends
from hifidata.backends.base import F32, RgbU8, TextRecognizer, TextRegions
from hifidata.recipe import Recipe
from hifidata.recipe_sections import Watermark as WatermarkSettings
from hifidata.schema import Reason, Row, Verdict
from hifidata.stages.base import Columns, Sample, Stage, main_face

# Text that starts beside the face must be seen whole to be recognised.
GROWN_BY = 0.15


class Watermark(Stage):
    """Reads text in the region around the face only, and measures how much of the face box it covers."""

    name = "watermark"
    needs = ("text_regions",)
    replayable = ("max_text_overlap", "min_text_score", "min_characters")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._recognizer: TextRecognizer = backends.load("watermark", str(recipe.watermark.model), recipe.watermark)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Every region that touches the face box, with its text, score and share of the box."""
        regions_and_boxes = [face_region(sample.rgb_u8, main_face(sample.row).xyxy_px) for sample in samples]
        boxes = [box for _, box in regions_and_boxes]
        found = self._recognizer.find([region for region, _ in regions_and_boxes])
        regions = [_regions_on(box, text) for box, text in zip(boxes, found, strict=True)]
        return {
            "text_regions": [json.dumps(region, ensure_ascii=False) for region in regions],
            "watermark_model": [self._recognizer.name] * len(samples),
        }

    @staticmethod
    def derive(rows: Sequence[Row], settings: WatermarkSettings) -> Columns:
        """Which regions count as text, and their share of the face box."""
        counted = [
            [
                (text, share)
                for text, score, share in json.loads(row["text_regions"])
                if score >= settings.min_text_score and len("".join(text.split())) >= settings.min_characters
            ]
            for row in rows
        ]
        return {
            "text_overlap": [min(sum(share for _, share in regions), 1.0) for regions in counted],
            "text_found": [" | ".join(text for text, _ in regions) or None for regions in counted],
        }

    @staticmethod
    def decide(row: Mapping[str, Any], settings: WatermarkSettings) -> Verdict | None:
        """Text covers more of the face box than the recipe allows."""
        overlap = row["text_overlap"]
        if overlap <= settings.max_text_overlap:
            return None
        return Verdict(
            Reason.TEXT_ON_FACE, overlap, settings.max_text_overlap, f"text covers {overlap:.1%} of the face box"
        )


def face_region(rgb_u8: RgbU8, box: F32) -> tuple[RgbU8, F32]:
    """The part of a picture in which text is looked for, and the face box (4,) in that part's pixels."""
    height, width = rgb_u8.shape[:2]
    grow = GROWN_BY * float(max(box[2] - box[0], box[3] - box[1]))
    x1, y1 = np.floor(np.maximum(box[:2] - grow, 0)).astype(int)
    x2, y2 = np.ceil(np.minimum(box[2:] + grow, [width, height])).astype(int)
    return np.ascontiguousarray(rgb_u8[y1:y2, x1:x2]), box - np.array([x1, y1, x1, y1], np.float32)


def _regions_on(box: F32, found: TextRegions) -> list[tuple[str, float, float]]:
    x1, y1, x2, y2 = box
    face = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32)
    area = max(float((x2 - x1) * (y2 - y1)), 1e-6)
    regions = []
    for quad, text, score in zip(found.quads_px, found.texts, found.scores, strict=True):
        share = cv2.intersectConvexConvex(face, np.ascontiguousarray(quad, np.float32))[0] / area
        if share > 0:
            regions.append((text, round(float(score), 4), round(float(share), 4)))
    return sorted(regions, key=lambda region: (-region[2], region[0]))
