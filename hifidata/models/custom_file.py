"""A model file of the user's own in place of the catalogue's: which one it is, and that it still is the one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hifidata.core.errors import RecipeError, WeightsError
from hifidata.models.config import ModelFileConfig
from hifidata.weights.find import sha256_of

LICENCE = "yours (unknown)"
NAMED_DIGITS = 12
"""Of the hash, behind the model's name in the manifest."""


def noted(stage: str, settings: ModelFileConfig) -> Mapping[str, str]:
    """What the recipe has to remember of a file: its hash, where it does not state one.

    Raises:
        RecipeError: the file cannot be read, or a hash is stated of none.
    """
    if settings.file is None:
        if settings.file_sha256 is not None:
            raise RecipeError(f"{stage}.file_sha256: is of no file; set {stage}.file, or remove it")
        return {}
    return {} if settings.file_sha256 else {"file_sha256": _sha256(stage, settings.file, RecipeError)}


def checked(stage: str, settings: ModelFileConfig) -> Path | None:
    """The file, held against its hash; None where the recipe names none. Raises WeightsError."""
    if settings.file is None:
        return None
    got = _sha256(stage, settings.file, WeightsError)
    if settings.file_sha256 not in (None, got):
        raise WeightsError(
            f"{stage}.file: {settings.file} has sha256 {got}, expected {settings.file_sha256}; bring the file back, or run "
            "with the new one into another folder"
        )
    return Path(settings.file).expanduser()


def name_of(model: str, settings: ModelFileConfig) -> str:
    """What the manifest calls the model: its architecture, and which file."""
    return f"{model}@{(settings.file_sha256 or _sha256(model, str(settings.file), WeightsError))[:NAMED_DIGITS]}"


def origin_of(stage: str, defaults: Mapping[str, Any], settings: Any) -> str:
    """Whose the thresholds are: a model's defaults were made for its own file."""
    taken = [key for key, value in defaults.items() if getattr(settings, key) in (None, value)]
    if not taken:
        return "the recipe" if defaults else f"{settings.model}'s own cut, made for another file"
    remedy = "`hifidata calibrate` fits it to the data" if stage == "verify" else "measure before you trust it"
    return f"{', '.join(taken)}: {settings.model}'s default, made for another file; {remedy}"


def _sha256(stage: str, file: str, kind: type[RecipeError] | type[WeightsError]) -> str:
    try:
        return sha256_of(Path(file).expanduser())
    except OSError as error:
        raise kind(
            f"{stage}.file: {file} cannot be read ({error.strerror}); name a model file, or set it to null"
        ) from error
