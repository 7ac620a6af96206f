"""3DDFA_V2: 62 coefficients of a morphable face from a crop of 120 px, and their 68 landmarks.

Source: Guo et al., Towards Fast, Accurate and Stable 3D Dense Face Alignment, ECCV 2020. The network, its mean and standard
deviation and the sparse basis are that project's (MobileNet x0.5). Two things differ. The crop is first rotated upright by
the five points, and the rotation goes into the pose, so that a head on its side is also fitted. Without landmarks, the
region takes two passes, as that project does for videos: landmarks of the first pass place the region of the second.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hifidata.core.errors import ModelError, WeightsError
from hifidata.models.face3d.base import FaceShape, to_pixels, upright_axes
from hifidata.models.protocols import F32, RgbU8
from hifidata.models.runtime.onnx import OnnxModel
from hifidata.weights.messages import right_file

INPUT_PX = 120
N_POSE, N_SHAPE, N_EXPRESSION, N_POINTS = 12, 40, 10, 68
N_PARAMETERS = N_POSE + N_SHAPE + N_EXPRESSION
REGION_OVER_LANDMARKS = float(np.sqrt(2))
"""Side of the region over the longer side of the landmarks' box: the rule of the authors."""
REGION_OVER_KPS, REGION_CENTRE_DOWN = 3.6, 0.8
"""Region from five points: side over the longer of eye distance and eyes-to-mouth distance; centre from eyes to mouth."""


class Morphable:
    """The sparse basis: 68 points as a linear function of shape and expression, without a network.

    Args:
        mean: ``u_base.txt``, 204 numbers: x, y, z by point.
        shapes: ``w_shp_base.txt``, (204, 40).
        expressions: ``w_exp_base.txt``, (204, 10).

    Raises:
        WeightsError: a file has other contents than its name says.
    """

    def __init__(self, mean: Path, shapes: Path, expressions: Path) -> None:
        self._mean = _table(mean, (N_POINTS * 3,)).reshape(N_POINTS, 3)
        self._shapes = _table(shapes, (N_POINTS * 3, N_SHAPE)).reshape(N_POINTS, 3, N_SHAPE)
        self._expressions = _table(expressions, (N_POINTS * 3, N_EXPRESSION)).reshape(N_POINTS, 3, N_EXPRESSION)

    def points(self, face: FaceShape) -> NDArray[np.float64]:
        """Return (68, 3) posed points in model units; one unit is ``camera[0]`` pixels."""
        neutral = self._mean + self._shapes @ face.shape.astype(np.float64)  # (68, 3)
        model = neutral + self._expressions @ face.expression.astype(np.float64)  # (68, 3)
        placed = face.pose.astype(np.float64).reshape(3, 4)
        return np.asarray(model @ placed[:, :3].T + placed[:, 3])

    def points_px(self, face: FaceShape) -> F32:
        """Return (68, 2) float32 points in pixels of the fitted image."""
        return to_pixels(self.points(face), face.camera)


class TddfaFitter:
    """Fits shape (40), expression (10) and pose (3 x 4 scaled rotation and offset, flattened) to an image.

    Args:
        network: ``mb05_120x120.onnx``.
        scaling: ``param_mean_std_62d_120x120.npz``.
        mean, shapes, expressions: see ``Morphable``.

    Raises:
        WeightsError: a file has other contents than its name says.
    """

    name = "tddfa"

    def __init__(self, network: Path, scaling: Path, mean: Path, shapes: Path, expressions: Path) -> None:
        self._basis = Morphable(mean, shapes, expressions)
        self._network = OnnxModel(network, [(None, 3, INPUT_PX, INPUT_PX)])
        self._network.try_out([(N_PARAMETERS,)])
        try:
            with np.load(scaling, allow_pickle=False) as stored:
                self._mean, self._std = (stored[part].astype(np.float64) for part in ("mean", "std"))
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise WeightsError(
                f"{scaling}: no npz with mean and std ({_line(error)}); {right_file(scaling)}"
            ) from error
        if self._mean.shape != (N_PARAMETERS,) or self._std.shape != (N_PARAMETERS,):
            raise WeightsError(
                f"{scaling}: mean {self._mean.shape}, std {self._std.shape}, expected (62,); {right_file(scaling)}"
            )

    def fit(self, rgb_u8: RgbU8, kps_px: F32, landmarks_px: F32 | None) -> FaceShape:
        """Fit the face at five points; known landmarks save the first pass.

        Args:
            rgb_u8: (H, W, 3) uint8.
            kps_px: (5, 2) eyes, nose tip, mouth corners.
            landmarks_px: (68, 2), or None for a second pass.

        Raises:
            ModelError: the points coincide or are not finite.
        """
        upright = upright_axes(kps_px)  # upright -> image
        if landmarks_px is None:
            first = self._fit_region(rgb_u8, upright, *_region_from_kps(kps_px))
            landmarks_px = self.points_px(first)
        return self._fit_region(rgb_u8, upright, *_region_from_landmarks(landmarks_px, upright))

    def points_px(self, face: FaceShape) -> F32:
        """Return (68, 2) float32 points in pixels of the fitted image."""
        return self._basis.points_px(face)

    def _fit_region(self, rgb_u8: RgbU8, upright: NDArray[Any], centre_px: NDArray[Any], side_px: float) -> FaceShape:
        if not (np.isfinite(centre_px).all() and np.isfinite(side_px) and side_px >= 1):
            raise ModelError("tddfa: the face's points coincide or are not finite")
        scale = side_px / INPUT_PX
        into_image = np.c_[upright * scale, centre_px - upright @ np.full(2, side_px / 2)]
        crop = cv2.warpAffine(rgb_u8, into_image, (INPUT_PX, INPUT_PX), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        bgr = (crop[:, :, ::-1].astype(np.float32) - 127.5) / 128
        raw = self._network(bgr.transpose(2, 0, 1)[None])[0][0]  # (62,)
        numbers = raw * self._std + self._mean
        return FaceShape(
            self.name,
            numbers[N_POSE : N_POSE + N_SHAPE].astype(np.float32),
            numbers[N_POSE + N_SHAPE :].astype(np.float32),
            _turned(numbers[:N_POSE].reshape(3, 4), upright).ravel().astype(np.float32),
            np.array([scale, *centre_px], np.float32),
        )


def rotation_of(pose: F32) -> NDArray[np.float64]:
    """Return the (3, 3) rotation from model to camera axes that is nearest to the scaled rows of a 3DDFA pose."""
    rows = pose.astype(np.float64).reshape(3, 4)[:2, :3]
    right, up = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.stack([right, up, np.cross(right, up)])


def _turned(pose: NDArray[np.float64], upright: NDArray[Any]) -> NDArray[np.float64]:
    """Move a pose from the lower left corner of the upright crop to the centre of the region in the image."""
    centred = pose.copy()
    # The network counts columns from 1 and rows from 0 at the bottom: the projection of the authors subtracts 1 from x only.
    centred[:2, 3] -= (INPUT_PX / 2 + 1, INPUT_PX / 2)
    in_plane = np.eye(3)
    in_plane[:2, :2] = upright.T  # y points up here and down in the image, so the rotation changes its sign
    return np.asarray(in_plane @ centred)


def _region_from_landmarks(landmarks_px: F32, upright: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Return centre (image px) and side (px) of the upright square around landmarks."""
    points = landmarks_px.astype(np.float64) @ upright  # rows times the matrix: the inverse turn
    low, high = points.min(axis=0), points.max(axis=0)
    return upright @ ((low + high) / 2), float((high - low).max()) * REGION_OVER_LANDMARKS


def _region_from_kps(kps_px: F32) -> tuple[NDArray[Any], float]:
    """Estimate the same square from five points."""
    points = kps_px.astype(np.float64)
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    longer_px = max(np.linalg.norm(points[1] - points[0]), np.linalg.norm(mouth - eyes))
    return eyes + REGION_CENTRE_DOWN * (mouth - eyes), float(longer_px) * REGION_OVER_KPS


def _table(path: Path, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        table = np.loadtxt(path, dtype=np.float64)
    except (ValueError, OSError) as error:
        raise WeightsError(f"{path}: not a table of numbers ({_line(error)}); {right_file(path)}") from error
    if table.shape != shape:
        raise WeightsError(f"{path}: a table of {table.shape}, expected {shape}; {right_file(path)}")
    return table


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
