"""Whether a dataset's files are those that its dataset.json speaks of: after a copy, before a training."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hifidata.core.errors import DatasetError
from hifidata.store.fragments import MANIFESTS
from hifidata.store.layout import DatasetFolder
from hifidata.store.shards import file_sha256

_SHARD_AGAIN = "copy it again; where it was made, delete it and run the recipe"
_MANIFEST_AGAIN = "copy it again; where it was made, run the recipe again, which writes it anew"


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        n_shards: that dataset.json lists.
        n_right: of these, there and as they were written.
        problems: what is wrong, by path from the dataset folder: of listed shards, of tars that nobody lists, of manifests.
        n_manifests: that were compared; none in a copy of the shards alone, and none that dataset.json does not list,
            as before it listed any.
        n_manifests_right: of these, there and as they were written.
    """

    n_shards: int
    n_right: int
    problems: dict[str, str]
    n_manifests: int = 0
    n_manifests_right: int = 0


def check(out: Path) -> Check:
    """Reads every shard and every manifest.

    Args:
        out: dataset folder; of it, ``dataset.json``, ``shards/`` and, where it is there, ``manifests/`` are looked at.

    Raises:
        DatasetError: no finished dataset, or a ``dataset.json`` that is none.
    """
    folder = DatasetFolder(out)
    listed = dict(_listed(folder, "shards"))
    problems = {
        path: problem
        for path, wanted in listed.items()
        if (problem := _problem(folder.root / path, *wanted, _SHARD_AGAIN))
    }
    n_right = len(listed) - len(problems)
    here = {f"{folder.shards.name}/{path}" for path in glob.glob("**/*.tar", root_dir=folder.shards, recursive=True)}
    problems |= dict.fromkeys(sorted(here - listed.keys()), "not listed, but a training on shards/**/*.tar reads it")
    compared = compare_manifests(folder) if folder.manifests.exists() else {}
    wrong = {path: problem for path, problem in compared.items() if problem}
    return Check(len(listed), n_right, problems | wrong, len(compared), len(compared) - len(wrong))


def list_manifests(folder: DatasetFolder) -> list[dict[str, Any]]:
    """What dataset.json says of the manifests: path, sha256 and size of each."""
    paths = [folder.manifests / f"{name}.parquet" for name in MANIFESTS]
    return [
        {
            "path": path.relative_to(folder.root).as_posix(),
            "sha256": file_sha256(path),
            "bytes": path.stat().st_size,
        }
        for path in paths
    ]


def compare_manifests(folder: DatasetFolder, names: Sequence[str] = MANIFESTS) -> dict[str, str | None]:
    """What is wrong with each manifest that dataset.json lists, by path from the dataset folder; None where nothing is.

    A manifest that somebody made a directory of part files is not compared.

    Raises:
        DatasetError: no finished dataset, or a ``dataset.json`` that is none.
    """
    return {
        path: _problem(folder.root / path, *wanted, _MANIFEST_AGAIN)
        for path, wanted in _listed(folder, "manifests")
        if PurePosixPath(path).stem in names and not (folder.root / path).is_dir()
    }


def require_manifests(folder: DatasetFolder, *names: str) -> None:
    """Before they are read, of these manifests: what is there is what dataset.json lists. Raises DatasetError."""
    for path, problem in compare_manifests(folder, names).items():
        if problem and (folder.root / path).exists():
            raise DatasetError(f"{folder.root / path}: {problem}")


def has_shards(folder: DatasetFolder) -> bool:
    """Whether every shard that dataset.json lists is there at its size. Raises DatasetError as ``check`` does."""
    listed = ((folder.root / path, n_bytes) for path, (n_bytes, _) in _listed(folder, "shards"))
    return all(path.is_file() and path.stat().st_size == n_bytes for path, n_bytes in listed)


def _listed(folder: DatasetFolder, kind: str) -> Iterator[tuple[str, tuple[int, str]]]:
    """(path from the dataset folder, (bytes, sha256)) of every file of ``shards/`` or ``manifests/``. Raises DatasetError."""
    dataset = folder.read_dataset()
    try:
        for entry in dataset.get("manifests", []) if kind == "manifests" else dataset[kind]:
            path = PurePosixPath(entry["path"])
            if path.parts[0] != kind or ".." in path.parts or str(path) != entry["path"]:
                raise ValueError(f"a path in {kind} is {str(path)!r}")
            yield str(path), (int(entry["bytes"]), str(entry["sha256"]))
    except (AttributeError, TypeError, KeyError, IndexError, ValueError) as error:
        raise DatasetError(
            f"{folder.dataset_json}: does not list {kind} as hifidata does ({type(error).__name__}: {error}); copy it again"
        ) from error


def _problem(path: Path, wanted_bytes: int, wanted_sha256: str, again: str) -> str | None:
    try:
        if not path.is_file():
            return f"{'no file' if path.exists() or path.is_symlink() else 'missing'}: {again}"
        n_bytes = path.stat().st_size
        if n_bytes != wanted_bytes:
            return f"{n_bytes} bytes instead of {wanted_bytes}: {again}"
        if file_sha256(path) != wanted_sha256:
            return f"altered: {again}"
    except OSError as error:
        return f"cannot be read, {error.strerror}: {again}"
    return None
