"""An average adult face of 68 points, and how faces vary by identity and by expression, in millimetres.

Set by hand from usual facial distances (eyes 63 mm apart, mouth 52 mm wide, eyes to chin 118 mm, ...) and from muscle
movements; no dataset was used. Axes: x to the right of the image, y up, z towards the viewer; the origin is between the outer
corners of the eyes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

# The left half of the image and the middle, by iBUG-300W number; the right half is the mirror image.
_HALF_MM = {
    0: (-71, -2, -60), 1: (-70, -22, -60), 2: (-68, -42, -60), 3: (-64, -61, -56), 4: (-57, -79, -47),
    5: (-46, -95, -31), 6: (-32, -108, -13), 7: (-16, -116, 3), 8: (0, -118, 10),
    17: (-59, 11, -9), 18: (-50, 20, 3), 19: (-37, 23, 11), 20: (-24, 21, 16), 21: (-12, 16, 19),
    27: (0, 4, 20), 28: (0, -9, 28), 29: (0, -22, 35), 30: (0, -35, 41),
    31: (-15, -45, 19), 32: (-7, -48, 24), 33: (0, -49, 26),
    36: (-44, 0, 0), 37: (-36, 5, 6), 38: (-26, 5, 9), 39: (-19, -1, 8), 40: (-27, -4, 8), 41: (-36, -4, 5),
    48: (-29, -69, 12), 49: (-18, -65, 20), 50: (-8, -63, 25), 51: (0, -65, 26),
    59: (-18, -79, 18), 58: (-8, -84, 22), 57: (0, -85, 23),
    60: (-25, -69, 14), 61: (-8, -70, 22), 62: (0, -71, 23), 67: (-8, -74, 22), 66: (0, -75, 23),
}  # fmt: skip
_PAIRS = [
    *zip(range(8), range(16, 8, -1), strict=True), *zip(range(17, 22), range(26, 21, -1), strict=True),
    (31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46),
    (48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65),
]  # fmt: skip
JAW = slice(0, 17)
BROWS, EYES, NOSE_BASE, LIPS = slice(17, 27), slice(36, 48), slice(31, 36), slice(48, 68)
_UPPER_LIP, _LOWER_LIP = [49, 50, 51, 52, 53], [55, 56, 57, 58, 59]
_INNER_UPPER, _INNER_LOWER = [61, 62, 63], [65, 66, 67]


def mean_face_mm() -> F64:
    """Return (68, 3) points of the average face."""
    face = np.zeros((68, 3))
    for point, xyz in _HALF_MM.items():
        face[point] = xyz
    for left, right in _PAIRS:
        face[right] = face[left] * (-1, 1, 1)
    return face


def identity_modes_mm() -> F64:
    """Return (n, 68, 2) displacements of one standard deviation between identities, without expression.

    They are about half of calliper measurements: lens, pose and detector explain the rest of a difference between photos.
    """
    face = mean_face_mm()
    side, height = np.sign(face[:, 0]), face[:, 1]
    jaw = np.zeros(68)
    jaw[JAW] = 1
    cheek, chin = jaw * np.clip((height + 114) / 60, 0, 1), jaw * np.clip(-height / 114, 0, 1)
    angle = jaw * np.exp(-(((height + 75) / 25) ** 2))
    eye_x = face[EYES, 0] - 31 * side[EYES]
    return np.stack(
        [
            _x(slice(None), side * cheek * 1.8),
            _x(slice(None), side * angle * 1.5),
            _y(slice(None), -chin * 2.5),
            _y(slice(None), -jaw * np.exp(-((face[:, 0] / 20) ** 2))),
            _x(EYES, side[EYES] * 0.8) + _x(BROWS, side[BROWS] * 0.6),
            _x(EYES, eye_x * 0.025),
            _y(EYES, np.sign(height[EYES] + 0.5) * (np.abs(height[EYES]) > 2) * 0.4),
            _y(EYES, side[EYES] * eye_x * 0.035),
            _y(NOSE_BASE, -1.2) + _y([28, 29, 30], np.array([-0.4, -0.8, -1.2])),
            _x(NOSE_BASE, face[NOSE_BASE, 0] * 0.055),
            _y([30], 0.8),
            _x(LIPS, face[LIPS, 0] * 0.035),
            _y(LIPS, -1.2),
            _y(_UPPER_LIP, 0.6),
            _y(_LOWER_LIP, -0.6),
            _y(BROWS, 0.9),
            _y(BROWS, 0.5 - np.abs(np.abs(face[BROWS, 0]) - 36) / 24),
            _y(BROWS, (np.abs(face[BROWS, 0]) - 36) / 21 * 0.6),
            _x(BROWS, side[BROWS] * 0.8),
        ]
    )


def expression_modes_mm() -> F64:
    """Return (n, 68, 2) displacements of one standard deviation within an identity: expression, and small pose errors."""
    face = mean_face_mm()
    side = np.sign(face[:, 0])
    drop = np.zeros(68)
    drop[3:14] = [1, 3, 5, 6.5, 7, 7, 7, 6.5, 5, 3, 1]
    drop[_LOWER_LIP], drop[_INNER_LOWER], drop[[48, 54, 60, 64]] = 7, 7, 2.5
    left, right = face[:, 0] < 0, face[:, 0] > 0
    corner = np.zeros(68)
    corner[LIPS] = np.clip(np.abs(face[LIPS, 0]) / 26, 0, 1)
    return np.stack(
        [
            _y(slice(None), -drop),
            _x(slice(None), side * corner * 4) + _y(slice(None), (corner - 0.3) * 3),
            _y(slice(None), (corner - 0.5) * 2.5),
            _x(slice(None), side * corner * 3),
            _y(_UPPER_LIP, 1.5) + _y(_INNER_UPPER, 1.5),
            _y(_LOWER_LIP, -1.5) + _y(_INNER_LOWER, -1.5),
            _y(_INNER_UPPER, -1.2) + _y(_INNER_LOWER, 1.2),
            *(
                _x(slice(None), 1.0 * (half & (corner > 0))) + _y(slice(None), corner * half * 1.5)
                for half in (left, right)
            ),
            *(_y(upper, -2.2) + _y(lower, 0.4) for upper, lower in (([37, 38], [40, 41]), ([43, 44], [46, 47]))),
            _y(BROWS, 2.5),
            _y([20, 21, 22, 23], 2.0),
            *(_y(brow, 1.2) for brow in (slice(17, 22), slice(22, 27))),
            _x([20, 21, 22, 23], -side[[20, 21, 22, 23]] * 1.5),
            _x([5, 6, 7, 8, 9, 10, 11], 1.5) + _x(LIPS, 0.8),
            _x(slice(None), face[:, 2] * np.sin(np.deg2rad(5))),
            _y(slice(None), face[:, 2] * np.sin(np.deg2rad(8))),
            face[:, :2] * 0.02,
            _x(slice(None), 1.0),
            _y(slice(None), 1.0),
        ]
    )


UNNAMED_MM = 0.7
"""Standard deviation between identities, per point, that no displacement above covers."""
LANDMARK_NOISE_MM, JAW_NOISE_MM = 1.4, 3.0
"""Detectors are inaccurate along the outline, and follow the visible outline of a turned head."""


def identity_share() -> F64:
    """Return the (136, 136) map from a difference between two faces to the part that identity explains.

    It is the linear estimate of least squared error if both kinds of difference are Gaussian with the deviations above:
    C_identity (C_identity + C_expression)^-1.
    """
    noise = np.full((68, 2), LANDMARK_NOISE_MM)
    noise[JAW] = JAW_NOISE_MM
    identity, expression = (modes.reshape(len(modes), 136) for modes in (identity_modes_mm(), expression_modes_mm()))
    between = identity.T @ identity + UNNAMED_MM**2 * np.eye(136)
    within = expression.T @ expression + np.diag(noise.ravel() ** 2)
    return np.asarray(np.linalg.solve((between + within).T, between.T).T)


def _x(points: slice | list[int], shift_mm: NDArray[Any] | float) -> F64:
    moved = np.zeros((68, 2))
    moved[points, 0] = shift_mm
    return moved


def _y(points: slice | list[int], shift_mm: NDArray[Any] | float) -> F64:
    moved = np.zeros((68, 2))
    moved[points, 1] = shift_mm
    return moved
