"""The result of a 3D face model for one face (the arrays of ``.face3d.npz``), head pose, and the projection to pixels.

All models share one camera, so that a face can be drawn without knowing its model. Model axes are x to the right of the
image, y up, z towards the viewer; ``camera`` is (scale, x, y) with

    column_px = x + scale * X        row_px = y - scale * Y

in pixels of the fitted image (of the sample's ``.jpg`` if the face comes from a shard).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hifidata.core.errors import ModelError
from hifidata.models.protocols import F32, RgbU8

PARTS = ("shape", "expression", "pose", "camera")
KPS_GROUPS = (slice(36, 42), slice(42, 48), slice(30, 31), slice(48, 49), slice(54, 55))
"""The iBUG-300W landmarks of each of the five points: eyes, nose tip and mouth corners."""


@dataclass(frozen=True)
class FaceShape:
    """One fitted face.

    Attributes:
        model: name of the model. Coefficients of different models cannot be combined.
        shape: (n_shape,) float32, the identity.
        expression: (n_expression,) float32; empty if the model does not separate expression from shape.
        pose: (n_pose,) float32, the position of the head relative to the camera, in the model's own form.
        camera: (3,) float32: scale in px per model unit, x px, y px.
    """

    model: str
    shape: F32
    expression: F32
    pose: F32
    camera: F32

    def arrays(self) -> dict[str, F32]:
        """Return the four arrays by name, as a shard stores them beside the model name."""
        return {part: getattr(self, part) for part in PARTS}


class Face3DModel(Protocol):
    """A 3D face model that is fitted to an image."""

    name: str

    def fit(self, rgb_u8: RgbU8, kps_px: F32, landmarks_px: F32 | None) -> FaceShape:
        """Fit the face at five points (5, 2). Raises ModelError if the points do not span a face."""

    def points_px(self, face: FaceShape) -> F32:
        """Return (68, 2) float32 iBUG-300W landmarks of a fitted face in pixels of its image."""


def kps_of(points: NDArray[Any]) -> NDArray[Any]:
    """Return the five points (5, d) of 68 landmarks (68, d): eye centres, nose tip and mouth corners."""
    return np.stack([points[group].mean(axis=0) for group in KPS_GROUPS])


def to_pixels(points: NDArray[Any], camera: F32) -> F32:
    """Project posed (n, 2 or 3) model points to (n, 2) float32 pixels."""
    scale, x_px, y_px = camera.astype(np.float64)
    return np.stack([x_px + scale * points[:, 0], y_px - scale * points[:, 1]], axis=1).astype(np.float32)


def roll_rad(kps_px: F32) -> float:
    """Return the in-plane rotation of a head from five points, clockwise positive; also stable for profiles.

    The eye line and the line from the eyes to the mouth are weighted by length: in a profile the eyes nearly coincide.
    """
    across = kps_px[1] - kps_px[0]
    down = (kps_px[3] + kps_px[4] - kps_px[0] - kps_px[1]) / 2
    return float(np.arctan2(across[1] - down[0], across[0] + down[1]))


def upright_axes(kps_px: F32) -> NDArray[np.float64]:
    """Return the (2, 2) rotation from an upright crop to the image, by ``roll_rad``."""
    turn = roll_rad(kps_px)
    return np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])


def weak_perspective(
    model: NDArray[Any], points: NDArray[Any]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Fit the scaled orthographic projection of a rigid model to its points in an image.

    Args:
        model: (n, 3), n >= 4, not in one plane; right-handed axes.
        points: (n, 2); x and y have the directions of the model's x and y.

    Returns:
        scale, (3, 3) rotation, (2,) translation: ``points = scale * (model @ rotation.T)[:, :2] + translation``.

    Raises:
        ModelError: the points lie on a line.
    """
    model, points = np.asarray(model, np.float64), np.asarray(points, np.float64)
    affine = (points - points.mean(axis=0)).T @ np.linalg.pinv((model - model.mean(axis=0)).T)  # (2, 3)
    left, stretch, right = np.linalg.svd(affine, full_matrices=False)
    if not stretch[1] >= 1e-6:
        raise ModelError("head pose: the landmarks lie on a line")
    x_axis, y_axis = left @ right  # nearest two rows of a rotation
    rotation = np.stack([x_axis, y_axis, np.cross(x_axis, y_axis)])
    scale = float(stretch.mean())
    return scale, rotation, points.mean(axis=0) - scale * rotation[:2] @ model.mean(axis=0)


def angles_deg(rotation: NDArray[Any]) -> tuple[float, float, float]:
    """Return yaw, pitch and roll of a (3, 3) rotation from model to camera axes, with the signs of the manifest.

    Positive yaw: towards the right of the image; pitch: up; roll: clockwise.
    """
    gaze, eyes = rotation[:, 2], rotation[:, 0]
    yaw, pitch = np.arctan2(gaze[0], gaze[2]), np.arcsin(np.clip(gaze[1], -1, 1))
    return float(np.rad2deg(yaw)), float(np.rad2deg(pitch)), float(np.rad2deg(np.arctan2(-eyes[1], eyes[0])))


def face_from_arrays(model: str, arrays: Mapping[str, Any]) -> FaceShape:
    """Return the inverse of ``FaceShape.arrays``. Raises KeyError if an array is missing."""
    return FaceShape(model, *(np.asarray(arrays[part], np.float32).ravel() for part in PARTS))
