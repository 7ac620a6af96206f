"""Whether a dataset's shards are those that its dataset.json speaks of: after a copy, before a training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hifidata.store.folder import DatasetFolder


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        n_shards: that dataset.json lists.
        n_right: of these, there and as they were written.
        problems: what is wrong, by path from the dataset folder: of listed shards, and of tars that nobody lists.
    """

    n_shards: int
    n_right: int
    problems: dict[str, str]


def check(out: Path) -> Check:
    """Reads every shard.

    Args:
        out: dataset folder; of it, ``dataset.json`` and ``shards/`` are looked at.

    Raises:
        DatasetError: no finished dataset.
    """
    folder = DatasetFolder(out)
    listed = {shard["path"]: shard for shard in folder.read_dataset()["shards"]}
    problems = {path: problem for path, shard in listed.items() if (problem := _problem(folder.root / path, shard))}
    n_right = len(listed) - len(problems)
    here = {path.relative_to(folder.root).as_posix() for path in folder.shards.rglob("*.tar")}
    problems |= dict.fromkeys(sorted(here - listed.keys()), "not listed: a glob of tars would train on it; delete it")
    return Check(len(listed), n_right, problems)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _problem(path: Path, shard: Mapping[str, Any]) -> str | None:
    if not path.is_file():
        return "missing: copy it again, or run the recipe again"
    n_bytes = path.stat().st_size
    if n_bytes != shard["bytes"]:
        return f"{n_bytes} bytes instead of {shard['bytes']}: copy it again, or delete it and run the recipe again"
    if sha256_of(path) != shard["sha256"]:
        return "altered, its sha256 is another: copy it again, or delete it and run the recipe again"
    return None
