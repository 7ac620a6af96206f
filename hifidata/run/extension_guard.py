"""Guard of code of other packages. Its errors and unfit results cost one image, not the run."""

from __future__ import annotations

import operator
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from hifidata.config.recipe import Recipe
from hifidata.core.errors import ExtensionError, HifiError, IntakeError, SampleError
from hifidata.core.reasons import MODEL_ERROR, Reason, by_code
from hifidata.core.schema import Column, Row, Verdict
from hifidata.models.spec import ModelSpec, stage_spec
from hifidata.stages.base import Columns, Sample, Stage
from hifidata.stages.landmarks import Landmarks
from hifidata.stages.table import OUR_STAGES, extension_models

MAX_SHOWN = 80
"""Characters of a value in a message."""
NORM_TOLERANCE = 0.01
RANGE_TOLERANCE = 1e-6
"""Rounding errors of float32 arithmetic are no error of a model."""


def guarded(stage: type[Stage], recipe: Recipe) -> type[Stage]:
    """Return the stage, with checks if it is code of another package or runs a model of another package.

    The parts of the returned class raise ExtensionError for an unexpected exception and for a result that does not fit.
    HifiError, OSError and MemoryError pass: they end a run.
    """
    sections = {stage.section, "verify"} if stage.name == "restore" else {stage.section}  # restore embeds faces, too
    specs = [spec for section, spec in extension_models(recipe) if section in sections]
    if stage not in OUR_STAGES:
        specs.append(stage_spec(stage))
    if not specs:
        return stage
    contract = _Contract(stage, specs)

    class Guarded(stage):  # type: ignore[misc, valid-type]
        """The stage, with checks of its results. Unexpected exceptions become ExtensionErrors."""

        def measure(self, samples: Sequence[Sample]) -> Columns:
            with contract.errors():
                columns = super().measure(samples)
            return contract.checked_columns(columns, len(samples))

        @staticmethod
        def derive(rows: Sequence[Row], config: Any) -> Columns:
            with contract.errors():
                columns = stage.derive(rows, config)
            return contract.checked_columns(columns, len(rows))

        @staticmethod
        def decide(row: Mapping[str, Any], config: Any) -> Verdict | None:
            contract.require_columns(row)
            with contract.errors():
                verdict = stage.decide(row, config)
            return contract.checked_verdict(verdict)

    return Guarded


class _Contract:
    """The columns and reasons that a stage and its models declare, and checks of their results."""

    def __init__(self, stage: type[Stage], specs: Sequence[ModelSpec]) -> None:
        self._name = ", ".join(spec.path for spec in specs)
        columns = [*stage.columns, *(column for spec in specs for column in spec.columns)]
        if stage.name == "face3d":
            columns += Landmarks.columns  # which this stage fills for it
        self._columns = {column.name: column for column in columns}
        self._reasons = by_code([*stage.reasons, *(reason for spec in specs for reason in spec.reasons), MODEL_ERROR])
        self._required = stage.required_columns
        self._may_be_null = stage not in OUR_STAGES

    def error(self, problem: str) -> ExtensionError:
        """Return the error for a problem of the class."""
        return ExtensionError(f"{self._name}: {problem}")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn unexpected exceptions into ExtensionErrors. Check the reason and the columns of SampleErrors."""
        try:
            yield
        except (IntakeError, ExtensionError):
            raise
        except SampleError as error:
            error.reason = self._declared(error.reason)
            self.checked_columns({name: [value] for name, value in error.columns.items()}, 1)
            raise
        except (HifiError, OSError, MemoryError):
            raise
        except Exception as error:  # code of another package may raise anything
            raise self.error(f"{type(error).__name__}: {' '.join(str(error).split())}") from error

    def checked_columns(self, columns: Any, n_rows: int) -> Columns:
        """Return the columns. Raises ExtensionError if a column is not declared, or a value does not fit."""
        if not isinstance(columns, Mapping):
            raise self.error(f"expected a mapping of columns, got {type(columns).__name__}")
        for name, values in columns.items():
            if name not in self._columns:
                raise self.error(f"fills the column {name}, which it does not declare; add it to the class's columns")
            if isinstance(values, str) or not isinstance(values, (Sequence, np.ndarray)):
                raise self.error(
                    f"expected a list of values of {name}, got {_shown(values)}; return one value per sample"
                )
            if len(values) != n_rows:
                raise self.error(f"expected {n_rows} values of {name}, got {len(values)}; return one value per sample")
            for value in values:
                if problem := _problem(self._columns[name], value):
                    raise self.error(problem)
        return dict(columns)

    def require_columns(self, row: Mapping[str, Any]) -> None:
        """Raise ExtensionError if a required column was not filled. Own stages decide about null themselves."""
        for name in self._required:
            if name not in row or (row[name] is None and not self._may_be_null):
                raise self.error(f"returned no {name}; return a value for each image, or raise ModelError")

    def checked_verdict(self, verdict: Any) -> Verdict | None:
        """Return the verdict with the declared reason. Raises ExtensionError if the verdict does not fit."""
        if verdict is None:
            return None
        if not isinstance(verdict, Verdict):
            raise self.error(f"expected a Verdict or None from decide, got {_shown(verdict)}")
        for name, value in (("score", verdict.score), ("threshold", verdict.threshold)):
            if value is not None and _as_number(value) is None:
                raise self.error(f"expected a number or None as {name} of the verdict, got {_shown(value)}")
        if not isinstance(verdict.message, (str, type(None))):
            raise self.error(f"expected text or None as message of the verdict, got {_shown(verdict.message)}")
        return replace(verdict, reason=self._declared(verdict.reason))

    def _declared(self, reason: Any) -> Reason:
        if str(reason) not in self._reasons:
            raise self.error(f"returns the reason {reason}, which it does not declare; add it to the class's reasons")
        return self._reasons[str(reason)]


def _problem(column: Column, value: Any) -> str:
    """Return the problem of a value of a column; empty if it fits. Null always fits."""
    if value is None:
        return ""
    if not _FITS[column.type](value):
        return f"{column.name} is declared as {column.type}, got {_shown(value)}; correct one of the two"
    if column.unit == "0 to 1" and not -RANGE_TOLERANCE <= float(value) <= 1 + RANGE_TOLERANCE:
        return f"{column.name} is declared as {column.unit}, got {float(value):g}; correct one of the two"
    if column.name == "embedding":
        norm = float(np.linalg.norm(np.asarray(value, np.float32)))
        if abs(norm - 1) > NORM_TOLERANCE:
            return f"expected embeddings with L2 norm 1, got {norm:.3f}; divide them by their norm"
    return ""


def _shown(value: Any) -> str:
    """Return a value for a message, in one short line."""
    return textwrap.shorten(repr(value), MAX_SHOWN, placeholder=" ...")


def _as_number(value: Any) -> float | None:
    """Return a finite number that float32 can hold; None for other values. A boolean is not a number."""
    if isinstance(value, (str, bytes, bool, np.bool_)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) <= np.finfo(np.float32).max else None


def _is_integer(value: Any, n_bits: int) -> bool:
    try:
        return not isinstance(value, (bool, np.bool_)) and -(2 ** (n_bits - 1)) <= operator.index(value) < 2 ** (
            n_bits - 1
        )
    except TypeError:
        return False


def _is_vector(value: Any) -> bool:
    try:
        vector = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        return False
    return vector.ndim == 1 and bool(np.isfinite(vector).all())


_FITS = {
    "string": lambda value: isinstance(value, str),
    "binary": lambda value: isinstance(value, bytes),
    "bool": lambda value: isinstance(value, (bool, np.bool_)),
    "int32": lambda value: _is_integer(value, 32),
    "int64": lambda value: _is_integer(value, 64),
    "float32": lambda value: _as_number(value) is not None,
    "list<float32>": _is_vector,
}
"""By type of a column: whether a value fits."""
