"""The landmark image of a training sample: expression and pose of the target, face shape of the reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hifidata.models.protocols import F32
from hifimodel.faces.clip_crop import scaled_points


class DrawLandmarks(Protocol):
    """Draws I_lmk.

    Args:
        target_lm: (68, 2) float32, pixels of the stored target.
        target_face3d: arrays of the 3D face of the target, or None.
        ref_lm: (68, 2) float32, pixels of the stored reference.
        ref_face3d: arrays of the 3D face of the reference, or None.
        source_px: side of the stored target.
        size_px: side of the result.

    Returns:
        (size_px, size_px, 3) uint8.

    Raises:
        LandmarkError, ValueError: the points or arrays cannot be drawn; the sample is skipped and counted.
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
    """``DrawLandmarks`` of stored landmarks, by a backend of ``hifimodel.landmarks``.

    Worker processes receive its name and folder only, and load the backend at the first call.

    Args:
        backend: name, for example ``points``.
        weights: see ``hifimodel.landmarks.load_backend``.
    """

    def __init__(self, backend: str, weights: Path | None = None) -> None:
        self._name, self._weights = backend, weights
        self._backend: Any = None

    def __reduce__(self) -> tuple[type[StoredLandmarks], tuple[str, Path | None]]:
        return StoredLandmarks, (self._name, self._weights)

    def load(self) -> None:
        """Load the backend, so that a missing file is an error before workers start."""
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
        """See ``DrawLandmarks``. Source: paper section 3.2, landmark generator."""
        from hifimodel.landmarks.draw import draw

        self.load()
        reference = self._backend.from_stored(ref_lm, ref_face3d)
        target = self._backend.from_stored(target_lm, target_face3d)
        points_px = self._backend.project(self._backend.swap(reference=reference, target=target))  # (68, 2)
        return np.asarray(draw(scaled_points(points_px, size_px / source_px), size_px), np.uint8)
