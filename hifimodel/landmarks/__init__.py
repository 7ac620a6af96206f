"""The landmark generator: who it is from a reference, expression and pose from the target, drawn as an image.

    backend = load_backend("tddfa", weights=None)
    reference = backend.encode(reference_rgb_u8, reference_kps_px, None)
    target = backend.encode(target_rgb_u8, target_kps_px, None)
    image = draw(backend.project(backend.swap(reference, target)), size_px=1024)

Backends: ``points`` (68 stored landmarks, no 3D model, nothing to download), ``tddfa`` (3DDFA_V2) and ``deca`` (the
paper's choice; its files come from the user). Nothing here imports torch; only ``deca`` does, when its encoder is loaded.

Source: the paper's section 3.3 (landmark generator); the style of the image is ours, the paper only shows one.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from hifimodel.errors import LandmarkError
from hifimodel.landmarks.base import FaceShape, LandmarkBackend
from hifimodel.landmarks.draw import STYLE_VERSION, draw

__all__ = ["BACKENDS", "STYLE_VERSION", "FaceShape", "LandmarkBackend", "LandmarkError", "draw", "load_backend"]

BACKENDS: Mapping[str, str] = {
    "points": "points:PointsBackend",
    "tddfa": "tddfa:TddfaBackend",
    "deca": "deca:DecaBackend",
}
"""Class by the name a config uses."""


def load_backend(name: str, weights: Path | None = None) -> LandmarkBackend:
    """Loads a landmark backend.

    Args:
        name: key of ``BACKENDS``.
        weights: the folder of its files; None: hifidata's weight folders are searched (``deca`` needs the folder).

    Raises:
        LandmarkError: no backend of that name.
        WeightsError: a file is missing or is not what it should be.
    """
    if name not in BACKENDS:
        raise LandmarkError(f"landmark backend {name!r} does not exist; known: {', '.join(BACKENDS)}")
    module, _, kind = BACKENDS[name].partition(":")
    backend: LandmarkBackend = getattr(importlib.import_module(f"hifimodel.landmarks.{module}"), kind)(weights)
    return backend
