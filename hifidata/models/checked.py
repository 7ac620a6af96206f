"""A model of another package, with a check of the results of its method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hifidata.core.errors import ExtensionError


class CheckedModel:
    """Calls a model of another package. All attributes but the checked method are those of the model.

    Args:
        model: the model.
        path: ``package.module:Class``, for messages.
        method: the method to check.
        result: the type that it returns; other types than Mapping are those of one image in a list or an array.
    """

    def __init__(self, model: Any, path: str, method: str, result: type) -> None:
        self._model = model
        self._path = path
        self._method = method
        self._result = result
        setattr(self, method, self._call)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def _call(self, first: Any, *more: Any) -> Any:
        result = getattr(self._model, self._method)(first, *more)
        if self._result is Mapping:
            if not isinstance(result, Mapping):
                raise self._error(f"must return a mapping, got {type(result).__name__}")
            return result
        if not isinstance(result, (list, tuple, np.ndarray)):
            raise self._error(f"must return a list with one result for each image, got {type(result).__name__}")
        if len(result) != len(first):
            raise self._error(f"must return one result for each image, got {len(result)} for {len(first)}")
        for item in result:
            if not isinstance(item, self._result):
                raise self._error(f"must return {self._result.__name__} for each image, got {type(item).__name__}")
            if self._method == "matte" and not np.isfinite(np.asarray(item)).all():
                raise self._error("must return finite numbers")
        return result

    def _error(self, problem: str) -> ExtensionError:
        return ExtensionError(f"{self._path}: {self._method} {problem}")
