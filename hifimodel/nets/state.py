"""``state.json`` of a checkpoint and of ``model/``: the step, and a sha256 of every other file beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hifidata.core.files import file_sha256, write_bytes
from hifidata.core.json_file import Count, read_object, with_digest

STATE_FILE = "state.json"


class SavedState(BaseModel):
    """The keys of ``state.json``. Earlier versions wrote no digests, and into ``model/`` only the step."""

    step: Count
    n_processes: Count = 1
    base: str = ""
    embedder: str = ""
    files: dict[str, str] = {}


def write_state(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write ``state.json`` with the facts and the sha256 of all files that are in the folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths}
    write_bytes(folder / STATE_FILE, json.dumps(with_digest({**facts, "files": files}), indent=1).encode())


def read_state(folder: Path) -> SavedState:
    """Read ``state.json``. Raises OSError, or ValueError if it is damaged."""
    return SavedState.model_validate(read_object(folder / STATE_FILE, SavedState))


def require_unaltered(folder: Path, state: SavedState, is_read: Callable[[str], bool] = lambda name: True) -> None:
    """Compare files with their sha256.

    Args:
        folder: with the files.
        state: its ``state.json``.
        is_read: selects files by name.

    Raises:
        ValueError: a file differs.
        OSError: a file is missing or cannot be read.
    """
    for name, sha256 in state.files.items():
        if is_read(name) and file_sha256(folder / name) != sha256:
            raise ValueError(f"{name} differs from its sha256")
