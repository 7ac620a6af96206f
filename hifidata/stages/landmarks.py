"""Landmarks in portrait pixels, for the landmark condition of hifimodel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hifidata.core.schema import Column
from hifidata.image.crop import map_points
from hifidata.stages.base import Columns, Sample, Stage


class Landmarks(Stage):
    """Maps the detector's 68 landmarks to the portrait. It drops no image."""

    name = "landmarks"
    title = "Landmarks"
    does = "68 facial landmarks are stored for each portrait."
    not_run = (
        "Landmarks were not stored: the recipe sets landmarks.model: null. hifimodel cannot be trained on this dataset."
    )
    columns = (Column("portrait_landmarks", "list<float32>", "x, y of 68 landmarks in the portrait", "px"),)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """Map the landmarks: (68, 2) flattened; null if the detector has no landmarks."""
        if self.recipe.landmarks.model != "detector":  # the stage face3d has filled the column
            return {}
        return {"portrait_landmarks": [self._mapped(sample) for sample in samples]}

    def _mapped(self, sample: Sample) -> list[float] | None:
        points = sample.row.get("face_landmarks")
        if points is None:
            return None
        xy = np.asarray(points, np.float32).reshape(-1, 2)
        mapped: list[float] = map_points(xy, sample.window, self.recipe.crop.output_px).ravel().tolist()
        return mapped
