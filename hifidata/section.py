"""What every part of a recipe has in common, wherever it is defined."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A part of the recipe: immutable, strict about its keys, and a yes or no is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _takes_no_truth_for_a_number(cls, values: Any) -> Any:
        # pydantic reads true as 1: `min_score: true` would drop every picture and say nothing
        for key, value in values.items() if isinstance(values, dict) else ():
            if (
                isinstance(value, bool)
                and key in cls.model_fields
                and not _names_bool(cls.model_fields[key].annotation)
            ):
                raise ValueError(f"{key} is no yes-or-no setting, got {'yes' if value else 'no'}")
        return values


def _names_bool(annotation: Any) -> bool:
    return annotation is bool or any(_names_bool(part) for part in get_args(annotation))
