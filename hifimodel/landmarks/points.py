"""Landmarks without a 3D model, from 68 points, an average face and the variation between identities."""

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
"""Foreshortening beyond 60 degrees is undone as for 60 degrees; otherwise errors of points would grow without bound."""


class PointsBackend:
    """Swaps faces in closed form, without files, for any detector with 68 landmarks.

    The head pose of an average face is fitted (weak perspective) and undone. The result is the displacement of every point
    from the average face, seen from the front, in millimetres. A fixed linear map (``face_statistics.identity_share``) gives
    the part that varies between identities: that part is ``shape``, the rest is ``expression``. Both add up to the
    displacement, so a face that is swapped with itself keeps its landmarks up to rounding.

    Differences from a 3D model: depth is always that of the average face, so a long nose stays average in profile. Identity
    and expression are separated by hand-set deviations, and are mixed if they look alike (a wide mouth, a smile). Points on
    the outline follow the detector instead of a fixed place of the skull. docs/decisions.md gives the measured error.

    Args:
        weights: ignored.
    """

    name = "points"

    def __init__(self, weights: Path | None = None) -> None:
        self._mean_mm = mean_face_mm()
        self._identity_share = identity_share()

    def encode(self, rgb_u8: RgbU8, kps_px: F32, landmarks_px: F32 | None) -> FaceShape:
        """See LandmarkBackend; uses the landmarks only."""
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
            raise LandmarkError(f"landmark backend 'points': the landmarks do not span a face ({error})") from error
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
    """Return the (2, 2) map from the front plane of the face to the image, with bounded foreshortening."""
    left, stretch, right = np.linalg.svd(rotation[:2, :2])
    return np.asarray((left * np.maximum(stretch, MIN_FORESHORTENING)) @ right)
