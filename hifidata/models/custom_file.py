"""The user's own model file instead of the catalogue's file: its sha256, and the check that it has not changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hifidata.core.errors import RecipeError, WeightsError
from hifidata.models.config import ModelFileConfig
from hifidata.weights.find import sha256_of

LICENCE = "yours (unknown)"
NAME_DIGITS = 12
"""Digits of the sha256 in the model's name in the manifest."""


def sha256_entry(stage: str, settings: ModelFileConfig) -> Mapping[str, str]:
    """Return the recipe key for the file's sha256, if the recipe does not state it.

    Raises:
        RecipeError: the file cannot be read, or ``file_sha256`` is set without ``file``.
    """
    if settings.file is None:
        if settings.file_sha256 is not None:
            raise RecipeError(
                f"{stage}.file_sha256: set without {stage}.file; set {stage}.file, or remove {stage}.file_sha256"
            )
        return {}
    return {} if settings.file_sha256 else {"file_sha256": _sha256(stage, settings.file, RecipeError)}


def checked_file(stage: str, settings: ModelFileConfig) -> Path | None:
    """Return the file after a check of its sha256; None if the recipe names no file. Raises WeightsError."""
    if settings.file is None:
        return None
    got = _sha256(stage, settings.file, WeightsError)
    if settings.file_sha256 not in (None, got):
        raise WeightsError(
            f"{stage}.file: {settings.file} has sha256 {got}, expected {settings.file_sha256}; restore the file, or run "
            "with the new file into another folder"
        )
    return Path(settings.file).expanduser()


def name_of(model: str, settings: ModelFileConfig) -> str:
    """Return the model's name for the manifest: architecture and start of the file's sha256."""
    return f"{model}@{(settings.file_sha256 or _sha256(model, str(settings.file), WeightsError))[:NAME_DIGITS]}"


def thresholds_from(stage: str, defaults: Mapping[str, Any], settings: Any) -> str:
    """Describe the origin of the thresholds; a model's default thresholds belong to the catalogue's file."""
    defaulted = [key for key, value in defaults.items() if getattr(settings, key) in (None, value)]
    if not defaulted:
        return "the recipe" if defaults else f"fixed threshold of {settings.model}, tuned for another file"
    remedy = "calibrate it with `hifidata calibrate`" if stage == "verify" else "check it on your data"
    return f"{', '.join(defaulted)}: default of {settings.model}, tuned for another file; {remedy}"


def _sha256(stage: str, file: str, kind: type[RecipeError] | type[WeightsError]) -> str:
    try:
        return sha256_of(Path(file).expanduser())
    except OSError as error:
        raise kind(
            f"{stage}.file: {file} cannot be read ({error.strerror}); name a model file, or set {stage}.file to null"
        ) from error
