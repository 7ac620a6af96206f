"""Comparison of shards and manifests with the sizes and sha256 in dataset.json, after a copy or before training."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hifidata.core.errors import DatasetError
from hifidata.core.files import file_sha256
from hifidata.store.fragments import MANIFESTS
from hifidata.store.layout import DatasetFolder

_SHARD_REMEDY = "copy it again, or delete it and run the recipe again"
_MANIFEST_REMEDY = "copy it again, or run the recipe again, which rewrites it"


@dataclass(frozen=True)
class Check:
    """Result of ``check``.

    Attributes:
        n_shards: number of shards in dataset.json.
        n_right: number of these that exist and match.
        problems: by path from the dataset folder, the problems of listed shards, unlisted tars and manifests.
        n_manifests: number of manifests that were compared. 0 if the folder or dataset.json has no manifests: a copy of
            the shards only, or a dataset of an early version.
        n_manifests_right: number of these that exist and match.
    """

    n_shards: int
    n_right: int
    problems: dict[str, str]
    n_manifests: int = 0
    n_manifests_right: int = 0


def check(out: Path) -> Check:
    """Compare all shards and manifests with dataset.json.

    Args:
        out: dataset folder with ``dataset.json``, ``shards/`` and optionally ``manifests/``.

    Raises:
        DatasetError: the dataset is not finished, or ``dataset.json`` is invalid.
    """
    folder = DatasetFolder(out)
    listed = dict(_listed(folder, "shards"))
    problems = {
        path: problem
        for path, wanted in listed.items()
        if (problem := _problem(folder.root / path, *wanted, _SHARD_REMEDY))
    }
    n_right = len(listed) - len(problems)
    found = {f"{folder.shards.name}/{path}" for path in glob.glob("**/*.tar", root_dir=folder.shards, recursive=True)}
    problems |= dict.fromkeys(
        sorted(found - listed.keys()), "not in dataset.json, but training on shards/**/*.tar reads it; remove it"
    )
    compared = compare_manifests(folder) if folder.manifests.exists() else {}
    wrong = {path: problem for path, problem in compared.items() if problem}
    return Check(len(listed), n_right, problems | wrong, len(compared), len(compared) - len(wrong))


def list_manifests(folder: DatasetFolder) -> list[dict[str, Any]]:
    """Return the entries of dataset.json for the manifests: path, sha256 and size of each."""
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
    """Return the problem of each manifest in dataset.json by path from the dataset folder; None if it matches.

    A manifest that was converted to a directory of part files is not compared.

    Raises:
        DatasetError: the dataset is not finished, or ``dataset.json`` is invalid.
    """
    return {
        path: _problem(folder.root / path, *wanted, _MANIFEST_REMEDY)
        for path, wanted in _listed(folder, "manifests")
        if PurePosixPath(path).stem in names and not (folder.root / path).is_dir()
    }


def require_manifests(folder: DatasetFolder, *names: str) -> None:
    """Check existing manifests against dataset.json before they are read. Raises DatasetError."""
    for path, problem in compare_manifests(folder, names).items():
        if problem and (folder.root / path).exists():
            raise DatasetError(f"{folder.root / path}: {problem}")


def has_shards(folder: DatasetFolder) -> bool:
    """Return whether every shard in dataset.json exists with its size. Raises DatasetError as ``check`` does."""
    listed = ((folder.root / path, n_bytes) for path, (n_bytes, _) in _listed(folder, "shards"))
    return all(path.is_file() and path.stat().st_size == n_bytes for path, n_bytes in listed)


def _listed(folder: DatasetFolder, kind: str) -> Iterator[tuple[str, tuple[int, str]]]:
    """Yield (path from the dataset folder, (bytes, sha256)) of each shard or manifest in dataset.json.

    Raises:
        DatasetError: the dataset is not finished, or an entry is invalid.
    """
    dataset = folder.read_dataset()
    try:
        for entry in dataset.get("manifests", []) if kind == "manifests" else dataset[kind]:
            path = PurePosixPath(entry["path"])
            if path.parts[0] != kind or ".." in path.parts or str(path) != entry["path"]:
                raise ValueError(f"path {str(path)!r} is not inside {kind}/")
            yield str(path), (int(entry["bytes"]), str(entry["sha256"]))
    except (AttributeError, TypeError, KeyError, IndexError, ValueError) as error:
        raise DatasetError(
            f"{folder.dataset_json}: invalid list of {kind} ({type(error).__name__}: {error}); copy it again"
        ) from error


def _problem(path: Path, expected_bytes: int, expected_sha256: str, remedy: str) -> str | None:
    try:
        if not path.is_file():
            return f"{'not a file' if path.exists() or path.is_symlink() else 'missing'}; {remedy}"
        n_bytes = path.stat().st_size
        if n_bytes != expected_bytes:
            return f"{n_bytes} bytes, expected {expected_bytes}; {remedy}"
        if file_sha256(path) != expected_sha256:
            return f"sha256 differs; {remedy}"
    except OSError as error:
        return f"cannot be read ({error.strerror}); {remedy}"
    return None
