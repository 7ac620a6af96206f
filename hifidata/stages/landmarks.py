"""Landmarks in the pixels of the written picture, for the training package's landmark condition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hifidata.core.schema import Column
from hifidata.image.crop import map_points
from hifidata.stages.base import Columns, Sample, Stage


class Landmarks(Stage):
    """Carries the detector's 68 points into the crop. No threshold, nothing is dropped."""

    name = "landmarks"
    title = "Landmarks"
    does = "68 facial points are stored for every portrait."
    not_run = "Facial landmarks were not stored, as the recipe asks (landmarks.model: null): hifimodel cannot be trained on this dataset."
    columns = (Column("portrait_landmarks", "list<float32>", "68 points as x, y in the written picture", "px"),)

    def measure(self, samples: Sequence[Sample]) -> Columns:
        """(68, 2) points flattened; null where the detector gives none."""
        if self.recipe.landmarks.model != "detector":  # the face3d stage wrote them
            return {}
        return {"portrait_landmarks": [self._mapped(sample) for sample in samples]}

    def _mapped(self, sample: Sample) -> list[float] | None:
        points = sample.row.get("face_landmarks")
        if points is None:
            return None
        xy = np.asarray(points, np.float32).reshape(-1, 2)
        mapped: list[float] = map_points(xy, sample.window, self.recipe.crop.output_px).ravel().tolist()
        return mapped
