"""Loaded models and their answers are remembered, because many runs of the tests judge the same photos."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np


@contextmanager
def remembered_models() -> Iterator[None]:
    """Load dlib's models and the list of first names once, and ask dlib once for each photo, in this process and this block."""
    import dlib

    from hifidata.models.attributes import name_gender
    from hifidata.models.detect.dlib import DlibDetector, DlibEmbedder

    with ExitStack() as patches:
        for owner, name in (
            (dlib, "get_frontal_face_detector"),
            (dlib, "shape_predictor"),
            (dlib, "face_recognition_model_v1"),
            (name_gender, "Detector"),
        ):
            patches.enter_context(patch.object(owner, name, cache(getattr(owner, name))))
        patches.enter_context(_remembered(DlibDetector, "detect"))
        patches.enter_context(_remembered(DlibEmbedder, "embed"))
        yield


@contextmanager
def _remembered(kind: type[Any], name: str) -> Iterator[None]:
    answers: dict[bytes, Any] = {}
    ask = getattr(kind, name)

    def remembered(self: Any, *arguments: Sequence[np.ndarray[Any, Any]]) -> Any:
        items = list(zip(*arguments, strict=True))
        if not items:
            return ask(self, *arguments)
        settings = repr(getattr(self, "_long_sides_px", "")).encode()
        keys = [settings + _digest(item) for item in items]
        for key, item in zip(keys, items, strict=True):
            if key not in answers:
                (answers[key],) = ask(self, *([part] for part in item))
        found = [deepcopy(answers[key]) for key in keys]
        return np.stack(found) if isinstance(found[0], np.ndarray) else found

    with patch.object(kind, name, remembered):
        yield


def _digest(arrays: Sequence[np.ndarray[Any, Any] | None]) -> bytes:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(b"None" if array is None else repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return digest.digest()
