"""Base class of all configurations, and their validation with one line per problem."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from hifidata.core.errors import UsageError
from hifidata.core.suggest import suggestion

Config = TypeVar("Config", bound=BaseModel)
MAX_SHOWN_CHARS = 200
"""Longest key or value in a message."""
_AT_KEY = "at_key"
"""Type of an error that the section's validator raises for one key. The error context holds the key."""


class BaseConfig(BaseModel):
    """A configuration section: immutable, refuses unknown keys, and accepts no boolean as a number.

    Texts are valid Unicode. Only ``byte_paths`` may contain bytes of a file name that are not UTF-8, as surrogates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    byte_paths: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _bool_is_not_a_number(cls, values: Any) -> Any:
        # pydantic reads true as 1, so `min_score: true` would silently drop every image.
        for key, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(key)
            if field is not None and _has_bool(value) and not _takes_bool(field.annotation):
                wanted = "a number" if _takes_number(field.annotation) else "text in quotes"
                raise PydanticCustomError(_AT_KEY, "expected {wanted}", {"wanted": wanted, "key": key})
            if isinstance(value, str) and key not in cls.byte_paths and not _is_unicode(value):
                raise PydanticCustomError(_AT_KEY, "expected valid Unicode; rename the file", {"key": key})
        return values


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _has_bool(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_bool, value.values()))
    return any(map(_has_bool, value)) if isinstance(value, (list, tuple)) else isinstance(value, bool)


def _takes_bool(annotation: Any) -> bool:
    """Return whether the field accepts a bool. Nested sections check their own fields."""
    if annotation is Any or (isinstance(annotation, type) and issubclass(annotation, (bool, BaseModel))):
        return True
    return any(map(_takes_bool, get_args(annotation)))


def _takes_number(annotation: Any) -> bool:
    return annotation in (int, float) or any(map(_takes_number, get_args(annotation)))


def validate(
    kind: type[Config], data: Mapping[str, Any], where: str, error: type[UsageError], section: str = ""
) -> Config:
    """Check keys and values, and return the configuration.

    Args:
        kind: configuration class.
        data: fields of the class.
        where: file or other origin, for the message.
        error: class to raise.
        section: key of the section that holds the fields, for the message.

    Raises:
        UsageError: one line per problem. The line of an unknown key names the nearest valid key.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as problem:
        begin = f"{where}: " if where else ""
        raise error("\n".join(f"{begin}{_explain(kind, item, section)}" for item in problem.errors())) from None


def _explain(kind: type[BaseModel], item: Any, section: str) -> str:
    models, names = [kind], [section] if section else []
    for part in item["loc"][:-1] if item["type"] == "extra_forbidden" else item["loc"]:
        if len(models) > 1 and (tagged := [model for model in models if _tag(model) == part]):
            models = (
                tagged  # pydantic adds the tag of a discriminated union to the location; the YAML has no such level
            )
            continue
        fields = [model.model_fields[part] for model in models if isinstance(part, str) and part in model.model_fields]
        models = [inner for field in fields for inner in _models_in(field.annotation)]
        names.append(_shown(str(part)))
    if item["type"] == "extra_forbidden":
        known = sorted({name for model in models for name in model.model_fields})
        key = _shown(str(item["loc"][-1]))
        return f"{'.'.join([*names, key])}: unknown key; {suggestion(key, known, 'known keys')}"
    if item["type"] == _AT_KEY:
        names.append(item["ctx"]["key"])
        item = {**item, "input": item["input"][item["ctx"]["key"]]}
    got = "" if isinstance(item.get("input"), dict) else f", got {_as_written(item.get('input'))}"
    message = f"{item['msg'].removeprefix('Value error, ')}{got}"
    if not names and item["type"] == "value_error":  # a check of several keys, whose message names them
        return message
    return f"{'.'.join(names) or kind.__name__.lower()}: {message}"


def _as_written(value: Any) -> str:
    """Return a value in YAML notation, cut to a usual length."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."


def _shown(key: str) -> str:
    return (key if key.isprintable() else ascii(key))[:MAX_SHOWN_CHARS]


def _tag(model: type[BaseModel]) -> Any:
    """Return the only value of the field ``kind``, the tag of a discriminated union; None without such a field."""
    field = model.model_fields.get("kind")
    return get_args(field.annotation)[0] if field and get_args(field.annotation) else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]
