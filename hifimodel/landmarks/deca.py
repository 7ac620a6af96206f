"""DECA as a landmark backend, the paper's choice. The user provides its three files; see ``FILES``.

The licences of DECA and FLAME forbid copies, commercial use and the training of commercial networks. Nothing downloads the
files. The config of a checkpoint names its backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from hifidata.models.face3d.base import angles_deg, to_pixels
from hifidata.models.protocols import F32, RgbU8
from hifimodel.errors import LandmarkError
from hifimodel.landmarks.base import FaceShape, checked_landmarks, stored_face, swapped
from hifimodel.landmarks.flame import N_EXPRESSION, N_SHAPE, FlameLandmarks, axis_angle

if TYPE_CHECKING:
    from hifimodel.landmarks.deca_encoder import DecaEncoder

FILES = {
    "generic_model.pkl": "FLAME 2020, from flame.is.tue.mpg.de after registration",
    "landmark_embedding.npy": "DECA's repository, folder data",
    "deca_model.tar": "DECA's own download, only needed to encode images",
}
INPUT_PX = 224
REGION_OVER_LANDMARKS = 1.1 * 1.25
"""Side of the region over the mean of width and height of the landmarks' box: two factors of DECA."""
_CODES = {"shape": N_SHAPE, "texture": 50, "expression": N_EXPRESSION, "pose": 6, "camera": 3, "light": 27}


class DecaBackend:
    """Shape (100), expression (50), pose (6: head and jaw, axis-angle).

    Args:
        weights: folder of ``FILES``.

    Raises:
        LandmarkError: no folder is given, or a file is missing or wrong.

    Source: paper 3.3; Feng et al., Learning an Animatable Detailed 3D Face Model from In-The-Wild Images, SIGGRAPH 2021.
    The crop is undone exactly, which DECA's demo does not do; there is no renderer.
    """

    name = "deca"

    def __init__(self, weights: Path | None = None) -> None:
        if weights is None:
            wanted = "; ".join(f"{name} ({origin})" for name, origin in FILES.items())
            raise LandmarkError(
                f"landmark backend 'deca' needs a folder with its files: {wanted}; name it with --landmarks-weights"
            )
        self._folder = weights
        self._flame = FlameLandmarks(weights / "generic_model.pkl", weights / "landmark_embedding.npy")

    @cached_property
    def _encoder(self) -> DecaEncoder:
        from hifimodel.landmarks.deca_encoder import DecaEncoder  # needs torch

        return DecaEncoder(self._folder / "deca_model.tar", sum(_CODES.values()))

    def encode(self, rgb_u8: RgbU8, kps_px: F32, landmarks_px: F32 | None) -> FaceShape:
        """See LandmarkBackend; needs the landmarks, which define DECA's crop."""
        points = checked_landmarks(landmarks_px, "landmark backend 'deca'")
        low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
        side_px = int((high - low).mean() * REGION_OVER_LANDMARKS)
        if side_px < 1:
            raise LandmarkError("landmark backend 'deca': the landmarks coincide")
        step = side_px / (
            INPUT_PX - 1
        )  # DECA maps the corners of the region to the centres of the first and last pixel
        corner = (low + high - side_px) / 2
        into_image = np.array([[step, 0, corner[0]], [0, step, corner[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        rgb = rgb_u8.astype(np.float32) / 255
        crop = np.asarray(cv2.warpAffine(rgb, into_image, (INPUT_PX, INPUT_PX), flags=flags), np.float32)
        cuts = np.cumsum(list(_CODES.values()))[:-1]
        parts = dict(zip(_CODES, np.split(self._encoder(crop), cuts), strict=True))
        scale, x, y = parts["camera"].astype(np.float64)
        half = INPUT_PX / 2 * step
        camera = np.array([scale * half, corner[0] + half * (1 + scale * x), corner[1] + half * (1 - scale * y)])
        return FaceShape(self.name, parts["shape"], parts["expression"], parts["pose"], camera.astype(np.float32))

    def from_stored(self, landmarks_px: F32 | None, face3d: Mapping[str, Any] | None) -> FaceShape:
        """See LandmarkBackend; reads ``.face3d.npz``."""
        return stored_face(self.name, {"shape": N_SHAPE, "expression": N_EXPRESSION, "pose": 6, "camera": 3}, face3d)

    def swap(self, reference: FaceShape, target: FaceShape) -> FaceShape:
        """See LandmarkBackend; the head pose is also the target's, unlike in DECA's transfer demo."""
        return swapped(reference, target)

    def project(self, face: FaceShape) -> F32:
        """See LandmarkBackend."""
        return to_pixels(self._flame.points(face.shape, face.expression, face.pose), face.camera)

    def angles_deg(self, face: FaceShape) -> tuple[float, float, float]:
        """See LandmarkBackend."""
        return angles_deg(axis_angle(face.pose[:3]))
