"""The errors that only hifimodel raises; hifimodel also raises WeightsError and FolderLockedError of hifidata.

    hifidata.core.errors.HifiError     base; the message is one line: what, where, got, expected, what to do next
    +-- UsageError                     the user can fix it (exit 2)
    |   +-- ConfigError                a key, value or override of a preset is wrong, or a command-line option
    |   +-- CheckpointError            a checkpoint was trained with other settings than requested
    |   +-- ConditionError             an input of the networks has the wrong range, shape or count
    |   +-- PhotoError                 a photo is not readable, has no face, or has too many faces
    |   +-- LandmarkError              a face, a shard member or a model file does not meet the needs of the landmarks
    |   +-- DataError                  shards are missing, of another format version, or damaged; or a resume does not match
    +-- DivergedError                  the loss is infinite or NaN (exit 1)

Any other exception is a bug and stops the run.
"""

from __future__ import annotations

from hifidata.core.errors import HifiError, UsageError


class ConfigError(UsageError):
    """A key, value or ``--set`` override of a preset is wrong, or a command-line option."""


class CheckpointError(UsageError):
    """A checkpoint was trained with other settings (landmark style, CLIP layer, embedder, ...) than requested."""


class ConditionError(UsageError):
    """An input of the networks has the wrong range, shape or count."""


class PhotoError(UsageError):
    """A reference or target photo cannot be used."""


class LandmarkError(UsageError):
    """A face, a shard member or a file of a landmark backend does not meet the needs of the landmarks."""


class DataError(UsageError):
    """Shards are missing, of another format version, without a usable identity or too damaged; or a resume does not match."""


class DivergedError(HifiError):
    """The loss became infinite or NaN."""


def one_line(error: BaseException, max_characters: int = 200) -> str:
    """Return the message of an error as one line of limited length, for the message of another error."""
    return " ".join(str(error).split())[:max_characters]
