"""MediaPipe's face mesh: 468 points in three dimensions from a crop of 192 px.

The mesh has no basis: ``shape`` holds identity and expression together, and ``expression`` is empty. That is enough for 68
landmarks behind a detector of five points, but not for swapping faces.

Source: Kartynnik et al., Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs, arXiv:1907.06724. The first
region comes from five points, the second from the points of the first pass, as MediaPipe does from frame to frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hifidata.core.errors import ModelError
from hifidata.models.face3d.base import FaceShape, to_pixels, upright_axes
from hifidata.models.protocols import F32, RgbU8
from hifidata.models.runtime.onnx import OnnxModel

INPUT_PX, N_POINTS = 192, 468
REGION_OVER_KPS, REGION_OVER_MESH = 4.2, 1.5
"""Side of the region over the longer of eye distance and eyes-to-mouth distance; over the longer side of the mesh."""

IBUG_68 = (
    127, 234, 132, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 361, 454, 356,
    70, 63, 105, 66, 55, 285, 296, 334, 293, 300, 168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
"""Mesh point of each iBUG-300W landmark: the usual list, corrected where another point is nearer to dlib's landmark.
On 81 real portraits within 15 degrees of frontal, the distance is 0.043 inter-ocular distances (median by point, mean over
points), and 0.088 along the outline, which has no fixed place on a face."""
_LEFT_EYE, _RIGHT_EYE, _FOREHEAD, _UNDER_NOSE = (33, 133), (362, 263), 10, 2


class MeshFitter:
    """Fits shape (468 x 3, flattened) and pose (3 x 3 rotation, flattened).

    The shape is in the axes of the head, in inter-ocular distances from its centre.

    Args:
        network: ``face_landmark.onnx``.

    Raises:
        WeightsError: the file is not that graph.
    """

    name = "mesh"

    def __init__(self, network: Path) -> None:
        self._network = OnnxModel(network, [(1, 3, INPUT_PX, INPUT_PX)])
        self._network.try_out([(3 * N_POINTS,)])

    def fit(self, rgb_u8: RgbU8, kps_px: F32, landmarks_px: F32 | None) -> FaceShape:
        """Fit the face at five points; landmarks are not used.

        Args:
            rgb_u8: (H, W, 3) uint8.
            kps_px: (5, 2) eyes, nose tip, mouth corners.
            landmarks_px: ignored.

        Raises:
            ModelError: the points coincide or are not finite.
        """
        upright = upright_axes(kps_px)  # upright -> image
        points = kps_px.astype(np.float64)
        eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
        longer_px = max(np.linalg.norm(points[1] - points[0]), np.linalg.norm(mouth - eyes))
        first = self._points(rgb_u8, upright, (eyes + mouth) / 2, float(longer_px) * REGION_OVER_KPS)
        seen = first[:, :2] @ upright  # rows times the matrix: the inverse turn
        low, high = seen.min(axis=0), seen.max(axis=0)
        side_px = float((high - low).max()) * REGION_OVER_MESH
        return _taken_apart(self._points(rgb_u8, upright, upright @ ((low + high) / 2), side_px))

    def points_px(self, face: FaceShape) -> F32:
        """Return (68, 2) float32 iBUG-300W landmarks in pixels of the fitted image."""
        return mesh_px(face)[list(IBUG_68)]

    def _points(self, rgb_u8: RgbU8, upright: NDArray[Any], centre_px: NDArray[Any], side_px: float) -> NDArray[Any]:
        """Return (468, 3) in image pixels, x right, y down, z away from the viewer."""
        if not (np.isfinite(centre_px).all() and np.isfinite(side_px) and side_px >= 1):
            raise ModelError("mesh: the face's points coincide or are not finite")
        step, middle = side_px / INPUT_PX, (INPUT_PX - 1) / 2
        into_image = np.c_[upright * step, centre_px - upright @ np.full(2, step * middle)]
        crop = cv2.warpAffine(rgb_u8, into_image, (INPUT_PX, INPUT_PX), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        points = self._network((crop.astype(np.float32) / 255).transpose(2, 0, 1)[None])[0].reshape(N_POINTS, 3)
        plane = (points[:, :2] - middle) @ upright.T * step + centre_px
        return np.asarray(np.c_[plane, points[:, 2] * step], np.float64)


def mesh_px(face: FaceShape) -> F32:
    """Return (468, 2) float32 mesh points in pixels of the fitted image."""
    rotation = face.pose.astype(np.float64).reshape(3, 3)
    return to_pixels(face.shape.astype(np.float64).reshape(N_POINTS, 3) @ rotation.T, face.camera)


def _taken_apart(points_px: NDArray[Any]) -> FaceShape:
    """Split points in the image into shape, pose and camera, without loss."""
    space = points_px * (1, -1, -1)  # x right, y up, z towards the viewer
    centre = space.mean(axis=0)
    between_eyes = space[list(_RIGHT_EYE)].mean(axis=0) - space[list(_LEFT_EYE)].mean(axis=0)
    scale = float(np.linalg.norm(between_eyes))
    across = between_eyes / max(scale, 1e-9)
    towards = np.cross(across, space[_FOREHEAD] - space[_UNDER_NOSE])
    if not np.isfinite(scale) or scale < 1e-3 or np.linalg.norm(towards) < 1e-3:
        raise ModelError("mesh: the network found no face at the given points")
    towards = towards / np.linalg.norm(towards)
    rotation = np.stack([across, np.cross(towards, across), towards], axis=1)  # head axes -> camera axes
    return FaceShape(
        MeshFitter.name,
        ((space - centre) @ rotation / scale).ravel().astype(np.float32),
        np.empty(0, np.float32),
        rotation.ravel().astype(np.float32),
        np.array([scale, centre[0], -centre[1]], np.float32),
    )
