"""Every exception that hifimodel raises on purpose.

    ModelPackageError              base; its message is one line: what, where, got, expected, what to do next
    +-- UsageError                 the user can mend it (exit 2)
    |   +-- ConfigError            a preset's key, value or override is wrong
    |   +-- WeightsError           a model file is missing, unreadable or of another kind than its name says
    |   +-- CheckpointError        a checkpoint was trained with other choices than the ones asked for
    |   +-- ConditionError         a picture, an embedding or a number of references does not fit the model
    |   +-- PhotoError             a reference or target photo is not readable, has no face, or too many
    |   +-- LandmarkError          a face, a shard member or a face model's file is not what the landmarks need
    |   +-- DataError              shards are missing, of another format version, unusable or too damaged
    +-- FolderLockedError          another run holds the output folder (exit 4)
    +-- DivergedError              the loss is no number any more (exit 1)

Anything else is a bug and stops the run.
"""

from __future__ import annotations


class ModelPackageError(Exception):
    """Base of all errors raised on purpose; the message is meant for the user."""

    exit_code = 1


class UsageError(ModelPackageError):
    """Something the user can mend before running again."""

    exit_code = 2


class ConfigError(UsageError):
    """A preset's key, value or ``--set`` override is wrong."""


class WeightsError(UsageError):
    """A model file is missing, unreadable, or not the model that its name says."""


class CheckpointError(UsageError):
    """A checkpoint belongs to other choices (landmark style, CLIP layer, embedder, ...) than the ones asked for."""


class ConditionError(UsageError):
    """An input to the nets has the wrong range, shape or count."""


class PhotoError(UsageError):
    """A reference or target photo cannot be used; one line with file, what, remedy."""


class LandmarkError(UsageError):
    """A face, a shard member or a backend's file is not what the landmarks need; one line with the remedy."""


class DataError(UsageError):
    """Shards are missing, of another format version, without a usable identity, or too damaged; or a resume does not fit."""


class FolderLockedError(ModelPackageError):
    """Another run trains in the same folder."""

    exit_code = 4


class DivergedError(ModelPackageError):
    """The loss became infinite or NaN."""
