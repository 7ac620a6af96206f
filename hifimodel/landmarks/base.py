"""What every landmark backend promises, and what they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from hifidata.models.face3d.base import PARTS, FaceShape, face_from_arrays
from hifidata.models.protocols import F32, RgbU8
from hifimodel.errors import LandmarkError

__all__ = [
    "N_POINTS", "FaceShape", "LandmarkBackend", "checked_landmarks", "stored_face", "swapped",
]  # fmt: skip

N_POINTS = 68


class LandmarkBackend(Protocol):
    """Takes faces apart into shape, expression, pose and camera, and puts the shape of one into the place of another.

    Attributes:
        name: as in a config.
    """

    name: str

    def encode(self, rgb_u8: RgbU8, kps_px: F32, landmarks_px: F32 | None) -> FaceShape:
        """Takes a face in an image apart.

        Args:
            rgb_u8: (H, W, 3) uint8.
            kps_px: (5, 2) eyes, nose tip and mouth corners, px.
            landmarks_px: (68, 2) iBUG-300W landmarks, px, where a detector gave them.

        Raises:
            LandmarkError: the backend needs landmarks and got none, or the points are no face.
        """

    def from_stored(self, landmarks_px: F32 | None, face3d: Mapping[str, Any] | None) -> FaceShape:
        """The same from a sample's ``.landmarks.npy`` and ``.face3d.npz``. Raises LandmarkError naming what is missing."""

    def swap(self, reference: FaceShape, target: FaceShape) -> FaceShape:
        """The shape of the reference with the expression, pose and camera of the target."""

    def project(self, face: FaceShape) -> F32:
        """(68, 2) float32 landmarks, px of the image that the face's camera belongs to."""

    def angles_deg(self, face: FaceShape) -> tuple[float, float, float]:
        """Yaw, pitch and roll; positive: towards the image's right, up, clockwise."""


def swapped(reference: FaceShape, target: FaceShape) -> FaceShape:
    """The reference's shape in the target's place. Raises LandmarkError where two models made the two faces."""
    if reference.model != target.model:
        raise LandmarkError(
            f"landmark swap: the reference comes from {reference.model!r}, the target from {target.model!r}; "
            "encode both with one backend"
        )
    return FaceShape(target.model, reference.shape, target.expression, target.pose, target.camera)


def stored_face(model: str, sizes: Mapping[str, int], face3d: Mapping[str, Any] | None) -> FaceShape:
    """The face of a sample's ``.face3d.npz``.

    Args:
        model: what it must say it was made by.
        sizes: numbers in shape, expression, pose and camera.
        face3d: the npz' members.

    Raises:
        LandmarkError: the member is missing, or comes from another model.
    """
    if face3d is None:
        raise LandmarkError(
            f"landmark backend {model!r}: the sample has no .face3d.npz of that model (hifidata writes those of "
            "face3d.model=tddfa; DECA's are yours to add); or use the backend 'points'"
        )
    missing = [name for name in ("model", *PARTS) if name not in face3d]
    if missing:
        raise LandmarkError(f".face3d.npz: member {', '.join(missing)} is missing; expected model, {', '.join(PARTS)}")
    made_by = str(face3d["model"])
    if made_by != model:
        raise LandmarkError(
            f"landmark backend {model!r}: .face3d.npz was made by {made_by!r}; use that backend, or shards "
            f"whose .face3d.npz are {model}'s"
        )
    face = face_from_arrays(model, face3d)
    got = {part: getattr(face, part).size for part in PARTS}
    if got != dict(sizes):
        raise LandmarkError(f".face3d.npz of {model!r}: got sizes {got}, expected {dict(sizes)}; write the shard again")
    return face


def checked_landmarks(landmarks_px: F32 | None, where: str) -> F32:
    """The landmarks themselves. Raises LandmarkError unless they are (68, 2) finite numbers."""
    if landmarks_px is None:
        raise LandmarkError(
            f"{where}: no 68 landmarks; use a detector that gives them (dlib_hog), run hifidata with landmarks, "
            "or use the backend 'tddfa'"
        )
    points: F32 = np.asarray(landmarks_px, np.float32)
    if points.shape != (N_POINTS, 2) or not np.isfinite(points).all():
        raise LandmarkError(f"{where}: landmarks of shape {points.shape}, expected (68, 2) finite numbers in px")
    return points
