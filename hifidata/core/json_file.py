"""JSON files that another program, a person or a damaged disk may have changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

MAX_BYTES = 2**30
DIGEST_KEY = "sha256"

Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(allow_inf_nan=False)]


def read_object(path: Path, shape: type[BaseModel] | None = None) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.
        shape: types of its keys, as a strict pydantic model.

    Raises:
        ValueError: no JSON object, a key of another type, or another sha256 than the object names in ``sha256``.
        OSError: the file cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    try:
        content = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    if content.pop(DIGEST_KEY, None) not in (None, _digest(content)):
        raise ValueError("differs from its sha256")
    if shape is not None:
        require_shape(shape, content)
    return content


def require_shape(shape: type[BaseModel], content: Any) -> None:
    """Raise ValueError with one line unless ``content`` has the shape."""
    try:
        shape.model_validate(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def with_digest(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object with its sha256, which ``read_object`` compares and removes."""
    return {**content, DIGEST_KEY: _digest(content)}


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
