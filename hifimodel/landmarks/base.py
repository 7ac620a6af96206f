"""The interface of landmark backends, and shared checks."""

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
    """Splits faces into shape, expression, pose and camera, and combines the parts of two faces.

    Attributes:
        name: key of ``BACKENDS``.
    """

    name: str

    def encode(self, rgb_u8: RgbU8, kps_px: F32, landmarks_px: F32 | None) -> FaceShape:
        """Fit a face in an image.

        Args:
            rgb_u8: (H, W, 3) uint8.
            kps_px: (5, 2) eyes, nose tip and mouth corners, px.
            landmarks_px: (68, 2) iBUG-300W landmarks, px, if the detector gives them.

        Raises:
            LandmarkError: the backend needs landmarks and there are none, or the points do not span a face.
        """

    def from_stored(self, landmarks_px: F32 | None, face3d: Mapping[str, Any] | None) -> FaceShape:
        """Return the face of ``.landmarks.npy`` and ``.face3d.npz``. Raises LandmarkError, naming the missing member."""

    def swap(self, reference: FaceShape, target: FaceShape) -> FaceShape:
        """Return the shape of the reference with the expression, pose and camera of the target."""

    def project(self, face: FaceShape) -> F32:
        """Return (68, 2) float32 landmarks, px of the image of the face's camera."""

    def angles_deg(self, face: FaceShape) -> tuple[float, float, float]:
        """Return yaw, pitch and roll; positive: towards the right of the image, up, clockwise."""


def swapped(reference: FaceShape, target: FaceShape) -> FaceShape:
    """Return the target with the shape of the reference. Raises LandmarkError if the faces are of two models."""
    if reference.model != target.model:
        raise LandmarkError(
            f"landmark swap: the reference is of {reference.model!r}, the target of {target.model!r}; "
            "encode both with one backend"
        )
    return FaceShape(target.model, reference.shape, target.expression, target.pose, target.camera)


def stored_face(model: str, sizes: Mapping[str, int], face3d: Mapping[str, Any] | None) -> FaceShape:
    """Return the face of ``.face3d.npz`` of a sample.

    Args:
        model: expected name of the model.
        sizes: expected sizes of shape, expression, pose and camera.
        face3d: members of the npz.

    Raises:
        LandmarkError: a member is missing, or of another model.
    """
    if face3d is None:
        raise LandmarkError(
            f"landmark backend {model!r}: the sample has no .face3d.npz of that model; run hifidata with face3d.model=tddfa "
            "(files of DECA must be added manually), or use the backend 'points'"
        )
    missing = [name for name in ("model", *PARTS) if name not in face3d]
    if missing:
        raise LandmarkError(f".face3d.npz: member {', '.join(missing)} is missing; expected model, {', '.join(PARTS)}")
    made_by = str(face3d["model"])
    if made_by != model:
        raise LandmarkError(
            f"landmark backend {model!r}: .face3d.npz is of {made_by!r}; use that backend, or shards with those of {model!r}"
        )
    face = face_from_arrays(model, face3d)
    got = {part: getattr(face, part).size for part in PARTS}
    if got != dict(sizes):
        raise LandmarkError(f".face3d.npz of {model!r}: got sizes {got}, expected {dict(sizes)}; write the shard again")
    return face


def checked_landmarks(landmarks_px: F32 | None, where: str) -> F32:
    """Return the landmarks. Raises LandmarkError unless they are (68, 2) finite numbers."""
    if landmarks_px is None:
        raise LandmarkError(
            f"{where}: no 68 landmarks; use a detector that gives them (dlib_hog), run hifidata with landmarks, "
            "or use the backend 'tddfa'"
        )
    points: F32 = np.asarray(landmarks_px, np.float32)
    if points.shape != (N_POINTS, 2) or not np.isfinite(points).all():
        raise LandmarkError(f"{where}: landmarks of shape {points.shape}, expected (68, 2) finite numbers in px")
    return points
