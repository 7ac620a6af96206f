"""What every part of a recipe has in common, wherever it is defined."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class BaseConfig(BaseModel):
    """A part of the recipe: immutable, strict about its keys, and a yes or no is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _takes_no_truth_for_a_number(cls, values: Any) -> Any:
        # pydantic reads true as 1: `min_score: true` would drop every picture and say nothing
        for key, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(key)
            if field is not None and _has_truth(value) and not _takes_truth(field.annotation):
                raise ValueError(f"{key} takes no yes or no (a word that is meant as text stands in quotes)")
        return values


def _has_truth(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_truth, value.values()))
    return any(map(_has_truth, value)) if isinstance(value, (list, tuple)) else isinstance(value, bool)


def _takes_truth(annotation: Any) -> bool:
    """Whether a bool may stand there; sections within see for themselves."""
    if annotation is Any or (isinstance(annotation, type) and issubclass(annotation, (bool, BaseModel))):
        return True
    return any(map(_takes_truth, get_args(annotation)))
