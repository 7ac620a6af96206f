"""The landmark generator: an image of landmarks with the shape of a reference and the expression and pose of the target.

    backend = load_backend("tddfa", weights=None)
    reference = backend.encode(reference_rgb_u8, reference_kps_px, None)
    target = backend.encode(target_rgb_u8, target_kps_px, None)
    image = draw(backend.project(backend.swap(reference, target)), size_px=1024)

Backends: ``points`` (68 stored landmarks, no 3D model, no files), ``tddfa`` (3DDFA_V2) and ``deca`` (the paper's choice; the
user provides its files). Only ``deca`` imports torch, when it loads its encoder.

Source: paper 3.3 (landmark generator); the style of the image is ours.
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
"""Module and class of each backend name."""


def load_backend(name: str, weights: Path | None = None) -> LandmarkBackend:
    """Load a landmark backend.

    Args:
        name: key of ``BACKENDS``.
        weights: folder of its files; None: hifidata's weight folders (``deca`` needs the folder).

    Raises:
        LandmarkError: unknown name.
        WeightsError: a file is missing or has other contents.
    """
    if name not in BACKENDS:
        raise LandmarkError(f"landmark backend {name!r} does not exist; known: {', '.join(BACKENDS)}")
    module, _, kind = BACKENDS[name].partition(":")
    backend: LandmarkBackend = getattr(importlib.import_module(f"hifimodel.landmarks.{module}"), kind)(weights)
    return backend
