"""Face detection: exactly one face that counts.

Paper, section 3.4: pictures in which the number of faces is not one are deleted. Search results are full of blurred
spectators, so which other faces count is a setting; 0.0 is the paper's rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hifidata.config.recipe import Recipe
from hifidata.config.sections import DetectConfig
from hifidata.core.reasons import Limit, Reason
from hifidata.core.schema import Column, Row, Verdict
from hifidata.models import registry
from hifidata.models.protocols import FaceDetector, Faces
from hifidata.stages.base import Columns, Sample, Stage

NO_FACE = Reason("no_face", "No face", "The detector found no face.")
SEVERAL_FACES = Reason(
    "several_faces",
    "Several faces",
    "A second face is large enough to count, and a portrait shows exactly one person.",
    limit=Limit("other_face_area_ratio", "above", "detect.other_face_min_area_ratio", "second face over main face"),
)
FACE_CUT_OFF = Reason(
    "face_cut_off",
    "Face cut off",
    "Too much of the face lies outside the picture.",
    limit=Limit("face_inside_ratio", "below", "detect.min_face_inside", "share of the face inside"),
)
FACE_MISMATCH = Reason(
    "face_mismatch",
    "Other face",
    "The face is not at the place of the list's face box.",
    limit=Limit("listed_face_iou", "below", "detect.min_listed_iou", "overlap with the list's box"),
)


class Detect(Stage):
    """Boxes, five points and landmarks of the largest face, and how large the others are."""

    name = "detect"
    title = "Face detection"
    does = "Faces are detected; a picture needs exactly one that counts."
    not_run = "Faces were not detected: no model was set in the recipe."
    columns = (
        Column("listed_face_iou", "float32", "overlap of the main face with the list's box", "intersection over union"),
        Column(
            "n_faces",
            "int32",
            "faces that count: the main one and those at least other_face_min_area_ratio of its area",
        ),
        Column("n_faces_raw", "int32", "all faces that the detector reported"),
        Column(
            "face_areas_rel", "list<float32>", "area of every reported face over the largest, largest first", "ratio"
        ),
        Column("other_face_area_ratio", "float32", "second of face_areas_rel; 0 where there is one face", "ratio"),
        Column("face_x1_px", "float32", "main face box in the oriented picture: left edge"),
        Column("face_y1_px", "float32", "main face box: top edge"),
        Column("face_x2_px", "float32", "main face box: right edge"),
        Column("face_y2_px", "float32", "main face box: bottom edge"),
        Column("face_inside_ratio", "float32", "share of the face box inside the picture", "ratio"),
        Column("face_score", "float32", "confidence of the detector", "scale of the detector"),
        Column(
            "face_kps",
            "list<float32>",
            "left eye, right eye, nose, mouth left, mouth right as x, y in the picture",
            "px",
        ),
        Column("face_landmarks", "list<float32>", "68 points as x, y in the picture", "px"),
        Column("detect_model", "string", "detector"),
    )
    reasons = (NO_FACE, SEVERAL_FACES, FACE_CUT_OFF, FACE_MISMATCH)
    needs = ("n_faces_raw",)
    replayable = ("other_face_min_area_ratio", "min_face_inside", "min_listed_iou")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._min_score = recipe.detect.min_score
        self._detector: FaceDetector = registry.load("detect", recipe.detect.model, recipe.detect)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Columns of the main face, in pixels of the upright picture; null where there is no face."""
        rows = []
        found = self._detector.detect([sample.rgb_u8 for sample in samples])
        for sample, faces in zip(samples, found, strict=True):
            height, width = sample.rgb_u8.shape[:2]
            row = _face_row(faces, self._min_score, width, height)
            row["detect_model"] = self._detector.name
            rows.append(row | {"listed_face_iou": _listed_face_iou(sample.row.get("listed_face"), row, width, height)})
        return {name: [row[name] for row in rows] for name in rows[0]}

    @staticmethod
    def derive(rows: Sequence[Row], config: DetectConfig) -> Columns:
        """How many faces count under ``other_face_min_area_ratio``."""
        floor = config.other_face_min_area_ratio
        return {"n_faces": [sum(area >= floor for area in row["face_areas_rel"]) for row in rows]}

    @staticmethod
    def decide(row: Mapping[str, Any], config: DetectConfig) -> Verdict | None:
        """No face, several faces that count, or a face cut off by the picture's edge."""
        if not row["n_faces_raw"]:
            return Verdict(NO_FACE, 0, 1, "no face found")
        if row["n_faces"] > 1:
            return Verdict(
                SEVERAL_FACES,
                row["other_face_area_ratio"],
                config.other_face_min_area_ratio,
                f"{row['n_faces']} faces count ({row['n_faces_raw']} found); the second has "
                f"{row['other_face_area_ratio']:.0%} of the main face's area",
            )
        if row["face_inside_ratio"] < config.min_face_inside:
            return Verdict(
                FACE_CUT_OFF,
                row["face_inside_ratio"],
                config.min_face_inside,
                f"{row['face_inside_ratio']:.0%} of the face box lies inside the picture",
            )
        overlap = row.get("listed_face_iou")
        if overlap is not None and overlap < config.min_listed_iou:
            message = f"the face found overlaps the list's by {overlap:.0%}, intersection over union"
            return Verdict(FACE_MISMATCH, overlap, config.min_listed_iou, message)
        return None


def _face_row(faces: Faces, min_score: float, width: int, height: int) -> Row:
    keep = faces.scores >= min_score
    xyxy = faces.xyxy_px[keep]
    row: Row = dict.fromkeys(
        ("other_face_area_ratio", "face_x1_px", "face_y1_px", "face_x2_px", "face_y2_px", "face_inside_ratio",
         "face_score", "face_kps", "face_landmarks")
    )  # fmt: skip
    row |= {"n_faces_raw": len(xyxy), "face_areas_rel": []}
    if not len(xyxy):
        return row
    areas = _areas(xyxy)
    main = int(np.argmax(areas))
    relative = np.sort(areas / areas[main])[::-1]
    inside = xyxy[main].clip(0, [width, height, width, height])
    row |= dict(zip(("face_x1_px", "face_y1_px", "face_x2_px", "face_y2_px"), map(float, xyxy[main]), strict=True))
    row |= {
        "face_areas_rel": relative.astype(np.float32).tolist(),
        "other_face_area_ratio": float(relative[1]) if len(relative) > 1 else 0.0,
        "face_inside_ratio": float(_areas(inside[None])[0] / areas[main]),
        "face_score": float(faces.scores[keep][main]),
        "face_kps": faces.kps_px[keep][main].ravel().tolist(),
    }
    if faces.landmarks_px is not None:
        row["face_landmarks"] = faces.landmarks_px[keep][main].ravel().tolist()
    return row


def _listed_face_iou(listed: Sequence[float] | None, row: Row, width: int, height: int) -> float | None:
    """Overlap of the main face with the list's box, both within the picture; None where either is missing."""
    if listed is None or row["face_x1_px"] is None:
        return None
    size = np.array([width, height, width, height], np.float32)
    found = np.array([row[f"face_{edge}_px"] for edge in ("x1", "y1", "x2", "y2")], np.float32).clip(0, size)
    wanted = (np.asarray(listed, np.float32) * size).clip(0, size)
    shared = np.concatenate([np.maximum(found[:2], wanted[:2]), np.minimum(found[2:], wanted[2:])])
    sides = np.maximum(shared[2:] - shared[:2], 0)
    overlap = float(sides[0] * sides[1])
    return overlap / (float(_areas(np.stack([found, wanted])).sum()) - overlap)


def _areas(xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    # (n, 4) -> (n,)
    areas: NDArray[np.float32] = np.maximum((xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1]), 1e-6)
    return areas
