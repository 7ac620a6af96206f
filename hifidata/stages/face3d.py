"""Coefficients of a 3D face model for each portrait. hifimodel uses them to swap faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hifidata.config.recipe import Recipe
from hifidata.core.schema import Column
from hifidata.image.crop import map_points
from hifidata.models import registry
from hifidata.models.face3d.base import PARTS, Face3DModel
from hifidata.stages.base import Columns, Sample, Stage, main_face


class Face3D(Stage):
    """Fits a 3D face model to the portrait, so its camera uses portrait pixels. It drops no image.

    With ``landmarks.model: face3d``, the 68 landmarks of the 3D face model become the sample's landmarks. Detectors with
    five points have no landmarks.
    """

    name = "face3d"
    title = "3D face"
    does = "A 3D face model is fitted to each portrait; shape, expression, pose and camera are stored."
    not_run = "No 3D face model was fitted: the recipe sets no model."
    columns = (
        Column("face3d_model", "string", "3D face model"),
        Column(
            "face3d_shape", "list<float32>", "shape coefficients; for mesh x, y, z of 468 points in head coordinates"
        ),
        Column("face3d_expression", "list<float32>", "expression coefficients; empty for mesh"),
        Column(
            "face3d_pose",
            "list<float32>",
            "tddfa: 3 x 4 scaled rotation and translation; mesh: 3 x 3 rotation; row-major",
        ),
        Column("face3d_camera", "list<float32>", "scale, x, y: portrait pixel = (x + scale * X, y - scale * Y)", "px"),
    )

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._model: Face3DModel = registry.load(self.name, str(recipe.face3d.model))

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Fit the model and return shape, expression, pose, camera and the model's name."""
        rows = [self._fitted(sample) for sample in samples]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _fitted(self, sample: Sample) -> dict[str, Any]:
        face, window, side_px = main_face(sample.row), sample.window, self.recipe.crop.output_px
        landmarks_px = None if face.landmarks_px is None else map_points(face.landmarks_px, window, side_px)
        fitted = self._model.fit(sample.portrait_u8, map_points(face.kps_px, window, side_px), landmarks_px)
        columns: dict[str, Any] = {f"face3d_{part}": fitted.arrays()[part].tolist() for part in PARTS}
        columns["face3d_model"] = fitted.model
        if self.recipe.landmarks.model == self.name:
            columns["portrait_landmarks"] = self._model.points_px(fitted).ravel().tolist()
        return columns
