"""Exceptions of hifidata.

    HifiError                      base; the message is one line: place, problem, expected, got, remedy
    +-- UsageError                 the user can fix it (exit 2): recipe, missing folder, wrong output folder
    |   +-- RecipeError            a recipe key, value or override is wrong
    |   +-- SourceError            the source is missing, empty or unreadable
    |   +-- WeightsError           a model file is missing, altered or not allowed by the licence policy
    |   +-- ServiceError           a server that a stage calls is down or refuses the request; the same command resumes
    |   +-- DatasetError           the output folder is not a dataset, or belongs to another recipe
    +-- FolderLockedError          another run holds the lock of the output folder (exit 4)
    +-- ConservationError          candidates != kept + dropped + failed: a bug, the run stops (exit 1)
    +-- SampleError                one candidate cannot be processed; carries the Reason for its manifest row
        +-- IntakeError            the bytes are not an image that the recipe accepts
        +-- ModelError             a model refused the image or failed on it
            +-- ExtensionError     code of another package raised an unexpected error, or its result does not fit

A ``SampleError`` never stops a run: the worker turns it into a manifest row. Any exception that is not a ``HifiError``
is a bug and stops the run. In code of another package, it costs one image (``hifidata.run.extension_guard``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hifidata.core.reasons import MODEL_ERROR, Reason


class HifiError(Exception):
    """Base of all errors that hifidata raises; the message is written for the user."""

    exit_code = 1


class UsageError(HifiError):
    """A problem that the user can fix before the next run."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe key, value or ``--set`` override is wrong."""


class SourceError(UsageError):
    """The source is missing, empty or unreadable."""


class WeightsError(UsageError):
    """A model file is missing, altered, or refused by the licence policy."""


class ServiceError(UsageError):
    """A server that a stage calls is down, or refuses the request."""


class DatasetError(UsageError):
    """A folder is not a dataset, or belongs to another recipe."""


class FolderLockedError(HifiError):
    """Another run holds the lock of the output folder."""

    exit_code = 4


class ConservationError(HifiError):
    """The number of candidates differs from kept + dropped + failed."""


class SampleError(HifiError):
    """One candidate cannot be processed.

    Args:
        reason: for the manifest's ``reason`` column.
        message: one line for the manifest's ``message`` column.
        columns: further known manifest columns of the candidate.
    """

    def __init__(self, reason: Reason, message: str, columns: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.columns = dict(columns or {})

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (self.reason, self.message, self.columns)


class IntakeError(SampleError):
    """The bytes are not an image that the recipe accepts."""


class ModelError(SampleError):
    """A model refused this candidate or failed on it."""

    def __init__(self, message: str, reason: Reason = MODEL_ERROR) -> None:
        super().__init__(reason, message)

    def __reduce__(self) -> tuple[type, tuple[str, Reason]]:
        return type(self), (self.message, self.reason)


class ExtensionError(ModelError):
    """Code of another package raised an unexpected error, or returned a result that does not fit."""
