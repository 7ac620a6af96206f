"""Every exception that hifidata raises on purpose.

    HifiError                      base; its message is one line: what, where, got, expected, what to do next
    +-- UsageError                 the user can mend it (exit 2): recipe, missing folder, wrong output folder
    |   +-- RecipeError            a recipe key, value or override is wrong
    |   +-- SourceError            the source is missing, empty or unreadable
    |   +-- WeightsError           a model file is missing, altered or not allowed by the licence policy
    |   +-- ServiceError           a server that a stage asks is down or refuses us; the same command goes on from there
    |   +-- DatasetError           the output folder is not a dataset, or belongs to another recipe
    +-- FolderLockedError          another run holds the output folder (exit 4)
    +-- ConservationError          candidates != kept + dropped + failed: a bug, the run stops (exit 1)
    +-- SampleError                one candidate cannot be processed; carries the Reason for its manifest row
        +-- IntakeError            its bytes are not a picture we accept
        +-- ModelError             a model refused or broke on it

A ``SampleError`` never stops a run: the executor turns it into a manifest row. Anything that is not a ``HifiError`` is a
bug and stops the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hifidata.core.reasons import MODEL_ERROR, Reason


class HifiError(Exception):
    """Base of all errors raised on purpose; the message is meant for the user."""

    exit_code = 1


class UsageError(HifiError):
    """Something the user can mend before running again."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe key, value or ``--set`` override is wrong."""


class SourceError(UsageError):
    """The source is missing, empty or unreadable."""


class WeightsError(UsageError):
    """A model file is missing, altered, or refused by the licence policy."""


class ServiceError(UsageError):
    """A server that a stage asks is down, or refuses us."""


class DatasetError(UsageError):
    """A folder is not a dataset, or it was made by another recipe."""


class FolderLockedError(HifiError):
    """Another run holds the lock of the output folder."""

    exit_code = 4


class ConservationError(HifiError):
    """Candidates do not add up to kept + dropped + failed."""


class SampleError(HifiError):
    """One candidate cannot be processed.

    Args:
        reason: for the manifest's ``reason`` column.
        message: one line for the manifest's ``message`` column.
        columns: further manifest columns that are known of the candidate.
    """

    def __init__(self, reason: Reason, message: str, columns: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.columns = dict(columns or {})

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (self.reason, self.message, self.columns)


class IntakeError(SampleError):
    """The bytes are not a picture that the recipe accepts."""


class ModelError(SampleError):
    """A model refused or broke on this candidate."""

    def __init__(self, message: str, reason: Reason = MODEL_ERROR) -> None:
        super().__init__(reason, message)

    def __reduce__(self) -> tuple[type, tuple[str, Reason]]:
        return type(self), (self.message, self.reason)
