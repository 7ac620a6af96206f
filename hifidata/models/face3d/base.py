"""What a 3D face model says about one face: the arrays of a sample's ``.face3d.npz``, and how they become pixels.

Every model shares one camera, so that a face can be drawn without knowing which model fitted it: model axes are x to the
picture's right, y up, z towards the viewer; ``camera`` is (scale, x, y) with

    column_px = x + scale * X        row_px = y - scale * Y

in pixels of the picture that was fitted (of the sample's ``.jpg`` where it comes from a shard).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hifidata.models.protocols import F32, RgbU8

PARTS = ("shape", "expression", "pose", "camera")


@dataclass(frozen=True)
class FaceShape:
    """One fitted face.

    Attributes:
        model: name of the model that made the numbers; numbers of different models do not mix.
        shape: (n_shape,) float32, who it is.
        expression: (n_expression,) float32; empty where a model does not tell expression from shape.
        pose: (n_pose,) float32, the head's position relative to the camera, in the model's own form.
        camera: (3,) float32: scale in px per model unit, x px, y px.
    """

    model: str
    shape: F32
    expression: F32
    pose: F32
    camera: F32

    def arrays(self) -> dict[str, F32]:
        """The four arrays by name, as a shard stores them beside the model's name."""
        return {part: getattr(self, part) for part in PARTS}


class Face3DModel(Protocol):
    """Fits a face model to a picture."""

    name: str

    def fit(self, rgb_u8: RgbU8, kps_px: F32, landmarks_px: F32 | None) -> FaceShape:
        """The face at five points (5, 2). Raises ModelError where the points are no face."""

    def points_px(self, face: FaceShape) -> F32:
        """(68, 2) float32 iBUG-300W landmarks of a fitted face in pixels of its picture."""


def to_pixels(points: NDArray[Any], camera: F32) -> F32:
    """(n, 2) float32 pixels of posed (n, 2 or 3) model points."""
    scale, x_px, y_px = camera.astype(np.float64)
    return np.stack([x_px + scale * points[:, 0], y_px - scale * points[:, 1]], axis=1).astype(np.float32)


def roll_rad(kps_px: F32) -> float:
    """In-plane tilt of a head, clockwise positive, from five points; steady for profiles too.

    Eyes and the line from the eyes to the mouth vote by their lengths: in a profile the eyes nearly coincide.
    """
    across = kps_px[1] - kps_px[0]
    down = (kps_px[3] + kps_px[4] - kps_px[0] - kps_px[1]) / 2
    return float(np.arctan2(across[1] - down[0], across[0] + down[1]))


def angles_deg(rotation: NDArray[Any]) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a (3, 3) rotation from model to camera axes, with the manifest's signs.

    Positive yaw: towards the picture's right; pitch: up; roll: clockwise.
    """
    gaze, eyes = rotation[:, 2], rotation[:, 0]
    yaw, pitch = np.arctan2(gaze[0], gaze[2]), np.arcsin(np.clip(gaze[1], -1, 1))
    return float(np.rad2deg(yaw)), float(np.rad2deg(pitch)), float(np.rad2deg(np.arctan2(-eyes[1], eyes[0])))


def face_from_arrays(model: str, arrays: Mapping[str, Any]) -> FaceShape:
    """The inverse of ``FaceShape.arrays``. Raises KeyError where a part is missing."""
    return FaceShape(model, *(np.asarray(arrays[part], np.float32).ravel() for part in PARTS))
