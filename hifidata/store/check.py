"""Whether a dataset's shards are those that its dataset.json speaks of: after a copy, before a training."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hifidata.errors import DatasetError
from hifidata.store.folder import DatasetFolder
from hifidata.store.shards import file_sha256

_AGAIN = "copy it again; where it was made, delete it and run the recipe"


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
        DatasetError: no finished dataset, or a ``dataset.json`` that is none.
    """
    folder = DatasetFolder(out)
    listed = dict(_listed(folder))
    problems = {path: problem for path, wanted in listed.items() if (problem := _problem(folder.root / path, *wanted))}
    n_right = len(listed) - len(problems)
    here = {f"{folder.shards.name}/{path}" for path in glob.glob("**/*.tar", root_dir=folder.shards, recursive=True)}
    problems |= dict.fromkeys(sorted(here - listed.keys()), "not listed, but a training on shards/**/*.tar reads it")
    return Check(len(listed), n_right, problems)


def _listed(folder: DatasetFolder) -> Iterator[tuple[str, tuple[int, str]]]:
    """(path from the dataset folder, (bytes, sha256)) of every shard. Raises DatasetError."""
    try:
        for shard in folder.read_dataset()["shards"]:
            path = PurePosixPath(shard["path"])
            if path.parts[0] != folder.shards.name or ".." in path.parts or str(path) != shard["path"]:
                raise ValueError(f"a shard's path is {str(path)!r}")
            yield str(path), (int(shard["bytes"]), str(shard["sha256"]))
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise DatasetError(
            f"{folder.dataset_json}: does not list shards as hifidata does ({type(error).__name__}: {error}); copy it again"
        ) from error


def _problem(path: Path, wanted_bytes: int, wanted_sha256: str) -> str | None:
    try:
        if not path.is_file():
            return f"{'no file' if path.exists() or path.is_symlink() else 'missing'}: {_AGAIN}"
        n_bytes = path.stat().st_size
        if n_bytes != wanted_bytes:
            return f"{n_bytes} bytes instead of {wanted_bytes}: {_AGAIN}"
        if file_sha256(path) != wanted_sha256:
            return f"altered: {_AGAIN}"
    except OSError as error:
        return f"cannot be read, {error.strerror}: {_AGAIN}"
    return None
