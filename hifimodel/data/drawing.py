"""The landmark image of a training sample: the target's expression and pose on the reference's face shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hifimodel.faces.clip_crop import scaled_points

F32 = NDArray[np.float32]


class DrawLandmarks(Protocol):
    """Draws I_lmk.

    Args:
        target_lm: (68, 2) float32, pixels of the target's stored image.
        target_face3d: arrays of the target's 3D face, or None.
        ref_lm: (68, 2) float32, pixels of the reference's stored image.
        ref_face3d: arrays of the reference's 3D face, or None.
        source_px: side of the target's stored image.
        size_px: side of the result.

    Returns:
        (size_px, size_px, 3) uint8.

    Raises:
        LandmarkError, ValueError: these points or arrays cannot be drawn; the sample is skipped and counted.
    """

    def __call__(
        self,
        target_lm: F32,
        target_face3d: Mapping[str, Any] | None,
        ref_lm: F32,
        ref_face3d: Mapping[str, Any] | None,
        source_px: int,
        size_px: int,
    ) -> NDArray[np.uint8]: ...


class StoredLandmarks:
    """``DrawLandmarks`` from what the shards store, through a backend of ``hifimodel.landmarks``.

    Only its name and folder travel to worker processes; each loads its own backend at the first call.

    Args:
        backend: its name, for example ``points``.
        weights: as in ``hifimodel.landmarks.load_backend``.
    """

    def __init__(self, backend: str, weights: Path | None = None) -> None:
        self._name, self._weights = backend, weights
        self._backend: Any = None

    def __reduce__(self) -> tuple[type[StoredLandmarks], tuple[str, Path | None]]:
        return StoredLandmarks, (self._name, self._weights)

    def load(self) -> None:
        """Loads the backend now, so that what it lacks is told before any worker starts."""
        from hifimodel.landmarks import load_backend

        if self._backend is None:
            self._backend = load_backend(self._name, self._weights)

    def __call__(
        self,
        target_lm: F32,
        target_face3d: Mapping[str, Any] | None,
        ref_lm: F32,
        ref_face3d: Mapping[str, Any] | None,
        source_px: int,
        size_px: int,
    ) -> NDArray[np.uint8]:
        """As ``DrawLandmarks``. Source: paper section 3.2, landmark generator."""
        from hifimodel.landmarks.draw import draw

        self.load()
        reference = self._backend.from_stored(ref_lm, ref_face3d)
        target = self._backend.from_stored(target_lm, target_face3d)
        points_px = self._backend.project(self._backend.swap(reference=reference, target=target))  # (68, 2)
        return np.asarray(draw(scaled_points(points_px, size_px / source_px), size_px), np.uint8)
