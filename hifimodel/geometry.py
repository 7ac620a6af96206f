"""Closed-form fits between sets of points."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


class DegenerateError(ValueError):
    """The points lie on one another or on a line, so nothing can be fitted to them."""


def similarity(source: NDArray[Any], destination: NDArray[Any]) -> F64:
    """The least-squares similarity that takes one set of points to another, without reflection.

    Args:
        source: (n, 2) points, n >= 2.
        destination: (n, 2) where they should go.

    Returns:
        (2, 3) matrix [scale * rotation | translation], as ``cv2.warpAffine`` takes it.

    Raises:
        DegenerateError: all source points coincide, or one is not finite.
    """
    # In the plane such a map is z -> turn * z + shift over complex numbers, and least squares has one division.
    seen, wanted = (np.asarray(points, np.float64) @ [1, 1j] for points in (source, destination))
    centred = seen - seen.mean()
    spread = float((np.abs(centred) ** 2).sum())
    if not 1e-6 < spread < np.inf:
        raise DegenerateError(f"similarity: all {len(source)} source points coincide, or one is not finite")
    turn = (centred.conj() * (wanted - wanted.mean())).sum() / spread
    shift = wanted.mean() - turn * seen.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def apply(matrix: NDArray[Any], points: NDArray[Any]) -> F64:
    """(n, d) points through a (d, d + 1) matrix."""
    return np.asarray(points @ matrix[:, :-1].T + matrix[:, -1], np.float64)


def weak_perspective(model: NDArray[Any], image: NDArray[Any]) -> tuple[float, F64, F64]:
    """The scaled orthographic projection that takes a rigid model to its picture.

    Args:
        model: (n, 3) points, n >= 4 and not in one plane; x right, y up, z towards the viewer.
        image: (n, 2) where they are seen; y up.

    Returns:
        scale, (3, 3) rotation, (2,) translation: ``image = scale * (model @ rotation.T)[:, :2] + translation``.

    Raises:
        DegenerateError: the seen points lie on a line.
    """
    model, image = np.asarray(model, np.float64), np.asarray(image, np.float64)
    centred, seen = model - model.mean(axis=0), image - image.mean(axis=0)
    affine = np.linalg.lstsq(centred, seen, rcond=None)[0].T  # (2, 3)
    left, stretch, right = np.linalg.svd(affine, full_matrices=False)
    if not stretch[1] > 1e-9 * max(stretch[0], 1e-9):
        raise DegenerateError("weak perspective: the points lie on a line")
    across, up = left @ right  # the nearest two rows of a rotation
    rotation = np.stack([across, up, np.cross(across, up)])
    scale = float(stretch.mean())
    return scale, rotation, image.mean(axis=0) - scale * rotation[:2] @ model.mean(axis=0)
