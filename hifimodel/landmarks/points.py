"""Landmarks without a 3D model: two faces' 68 points, an average face, and how people differ from one another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hifidata.core.errors import ModelError
from hifidata.models.face3d.base import angles_deg, to_pixels, weak_perspective
from hifidata.models.protocols import F32, RgbU8
from hifimodel.errors import LandmarkError
from hifimodel.landmarks.base import N_POINTS, FaceShape, checked_landmarks, swapped
from hifimodel.landmarks.face_statistics import F64, identity_share, mean_face_mm

MIN_FORESHORTENING = 0.5
"""Widths seen from further aside than 60 degrees are undone as if from 60: the points' errors would grow without bound."""


class PointsBackend:
    """Swaps by a closed form; nothing to download, and any detector with 68 landmarks will do.

    A head pose is fitted with an average face (weak perspective). Undoing it leaves every point's displacement from the
    average face, seen from the front, in millimetres. A fixed linear map (``face_statistics.identity_share``) gives the
    part of it that differs between people; that part is ``shape``, the rest is ``expression``, and both add up to the
    displacement, so a face swapped with itself keeps its landmarks to float rounding.

    How it differs from a 3D model: depth is always the average face's, so a long nose stays average in profile; identity
    and expression are told apart by hand-set spreads and not learned, and are mixed where they look alike (a wide mouth,
    a smile); points on the outline follow what the detector saw, not a fixed place of the skull. See docs/decisions.md
    for its measured error.

    Args:
        weights: not used.
    """

    name = "points"

    def __init__(self, weights: Path | None = None) -> None:
        self._mean_mm = mean_face_mm()
        self._identity_share = identity_share()

    def encode(self, rgb_u8: RgbU8, kps_px: F32, landmarks_px: F32 | None) -> FaceShape:
        """See LandmarkBackend; looks at the landmarks alone."""
        return self._encode(checked_landmarks(landmarks_px, "landmark backend 'points'"))

    def from_stored(self, landmarks_px: F32 | None, face3d: Mapping[str, Any] | None) -> FaceShape:
        """See LandmarkBackend; reads ``.landmarks.npy``."""
        return self._encode(checked_landmarks(landmarks_px, "landmark backend 'points', .landmarks.npy"))

    def swap(self, reference: FaceShape, target: FaceShape) -> FaceShape:
        """See LandmarkBackend."""
        return swapped(reference, target)

    def project(self, face: FaceShape) -> F32:
        """See LandmarkBackend."""
        displaced_mm = (face.shape.astype(np.float64) + face.expression).reshape(N_POINTS, 2)
        rotation = face.pose.astype(np.float64).reshape(3, 3)
        seen = (self._mean_mm[:, :2] + displaced_mm) @ _flat(rotation).T + self._mean_mm[:, 2:] * rotation[:2, 2]
        return to_pixels(seen, face.camera)

    def angles_deg(self, face: FaceShape) -> tuple[float, float, float]:
        """See LandmarkBackend."""
        return angles_deg(face.pose.astype(np.float64).reshape(3, 3))

    def _encode(self, landmarks_px: F32) -> FaceShape:
        seen = landmarks_px.astype(np.float64) * (1, -1)  # y up
        try:
            scale, rotation, offset = weak_perspective(self._mean_mm, seen)
        except ModelError as error:
            raise LandmarkError(f"landmark backend 'points': the landmarks are no face ({error})") from error
        in_plane = (seen - offset) / scale - self._mean_mm[:, 2:] * rotation[:2, 2]
        displaced_mm = (in_plane @ np.linalg.inv(_flat(rotation)).T - self._mean_mm[:, :2]).ravel()  # (136,)
        shape_mm = self._identity_share @ displaced_mm
        return FaceShape(
            self.name,
            shape_mm.astype(np.float32),
            (displaced_mm - shape_mm).astype(np.float32),
            rotation.ravel().astype(np.float32),
            np.array([scale, offset[0], -offset[1]], np.float32),
        )


def _flat(rotation: F64) -> F64:
    """(2, 2) map of the face's front plane to the image, its foreshortening bounded so that it can be undone."""
    left, stretch, right = np.linalg.svd(rotation[:2, :2])
    return np.asarray((left * np.maximum(stretch, MIN_FORESHORTENING)) @ right)
