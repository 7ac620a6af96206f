"""Face detection: the image must contain exactly one large face.

Source: paper, section 3.4: images with a number of faces other than one are deleted. Search results often show blurred
spectators. So the smallest area of a counted face is a setting; 0.0 is the paper's rule.
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
    "A second face is large enough to count; a portrait shows exactly one face.",
    limit=Limit("other_face_area_ratio", "above", "detect.other_face_min_area_ratio", "second face over main face"),
)
FACE_CUT_OFF = Reason(
    "face_cut_off",
    "Face cut off",
    "Too much of the face is outside the image.",
    limit=Limit("face_inside_ratio", "below", "detect.min_face_inside", "share of the face inside"),
)
FACE_MISMATCH = Reason(
    "face_mismatch",
    "Other face",
    "The face does not match the face box of the list.",
    limit=Limit("listed_face_iou", "below", "detect.min_listed_iou", "overlap with the list's box"),
)


class Detect(Stage):
    """Face box, five points and landmarks of the largest face, and the areas of all faces."""

    name = "detect"
    title = "Face detection"
    does = "Faces are detected; the image must contain exactly one large face."
    not_run = "Faces were not detected: the recipe sets no model."
    columns = (
        Column("listed_face_iou", "float32", "overlap of the main face with the list's box", "intersection over union"),
        Column(
            "n_faces",
            "int32",
            "counted faces: the main face, and faces with at least other_face_min_area_ratio of its area",
        ),
        Column("n_faces_raw", "int32", "all faces that the detector found"),
        Column(
            "face_areas_rel",
            "list<float32>",
            "area of each face over the largest area, in descending order",
            "ratio",
        ),
        Column("other_face_area_ratio", "float32", "second value of face_areas_rel; 0 for a single face", "ratio"),
        Column("face_x1_px", "float32", "main face box in the upright image: left edge"),
        Column("face_y1_px", "float32", "main face box: top edge"),
        Column("face_x2_px", "float32", "main face box: right edge"),
        Column("face_y2_px", "float32", "main face box: bottom edge"),
        Column("face_inside_ratio", "float32", "share of the face box inside the image", "ratio"),
        Column("face_score", "float32", "confidence of the detector", "scale of the detector"),
        Column(
            "face_kps",
            "list<float32>",
            "x, y of left eye, right eye, nose, left and right mouth corner in the upright image",
            "px",
        ),
        Column("face_landmarks", "list<float32>", "x, y of 68 landmarks in the upright image", "px"),
        Column("detect_model", "string", "face detector"),
    )
    reasons = (NO_FACE, SEVERAL_FACES, FACE_CUT_OFF, FACE_MISMATCH)
    required_columns = ("n_faces_raw",)
    replayable = ("other_face_min_area_ratio", "min_face_inside", "min_listed_iou")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._min_score = recipe.detect.min_score
        self._detector: FaceDetector = registry.load("detect", recipe.detect.model, recipe.detect)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Detect faces and return the columns of the main face, in pixels of the upright image; null without a face."""
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
        """Count the faces with at least ``other_face_min_area_ratio`` of the main face's area."""
        floor = config.other_face_min_area_ratio
        return {"n_faces": [sum(area >= floor for area in row["face_areas_rel"]) for row in rows]}

    @staticmethod
    def decide(row: Mapping[str, Any], config: DetectConfig) -> Verdict | None:
        """Drop images without a face, with several counted faces, with a face that is cut off, or with another face."""
        if not row["n_faces_raw"]:
            return Verdict(NO_FACE, 0, 1, "no face found")
        if row["n_faces"] > 1:
            return Verdict(
                SEVERAL_FACES,
                row["other_face_area_ratio"],
                config.other_face_min_area_ratio,
                f"{row['n_faces']} counted faces ({row['n_faces_raw']} found); the second face has "
                f"{row['other_face_area_ratio']:.0%} of the main face's area",
            )
        if row["face_inside_ratio"] < config.min_face_inside:
            return Verdict(
                FACE_CUT_OFF,
                row["face_inside_ratio"],
                config.min_face_inside,
                f"{row['face_inside_ratio']:.0%} of the face box is inside the image",
            )
        overlap = row.get("listed_face_iou")
        if overlap is not None and overlap < config.min_listed_iou:
            message = f"the detected face box and the list's face box have an intersection over union of {overlap:.0%}"
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
    """Return the IoU of the main face box and the list's face box, clipped to the image; None without both."""
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
