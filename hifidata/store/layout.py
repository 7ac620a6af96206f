"""The dataset folder: its paths, its lock and the records of its run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hifidata.core.errors import DatasetError
from hifidata.core.filenames import escaped
from hifidata.core.files import TEMPORARY_PREFIX, find_link, locked, remove_temporary, write_bytes
from hifidata.core.json_file import read_object, with_digest
from hifidata.store.records import DatasetRecord, RunRecord


class DatasetFolder:
    """Paths of a dataset folder.

    ``state/`` holds the data for resuming: the recipe, a lock and one manifest fragment per committed identity.
    README.md describes the other files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        if escaped(str(self.root)) != str(self.root):
            raise DatasetError(
                f"{self.root}: the path is not UTF-8, which Parquet needs; rename or choose another folder"
            )
        self.manifests = self.root / "manifests"
        self.shards = self.root / "shards"
        self.state = self.root / "state"
        self.calibration_json = self.manifests / "calibration.json"
        self.dataset_json = self.root / "dataset.json"
        self.run_json = self.state / "run.json"
        self.fragments = self.state / "fragments"
        self.originals = self.root / "originals"
        self.waiting_originals = self.state / "originals"
        self.report = self.root / "report"
        self.yield_order = self.state / "yield_order.txt"
        self.source_index = self.state / "source"
        self.deaths = self.state / "deaths"

    def fragment_path(self, identity_id: str) -> Path:
        """Return the path of an identity's manifest fragment."""
        return self.fragments / identity_id[:2] / f"{identity_id}.parquet"

    def earlier_path(self, identity_id: str) -> Path:
        """Return the path of the fragment that the next commit replaces; an empty file before the first commit."""
        return self.fragment_path(identity_id).with_suffix(".earlier")

    def shard_path(self, identity_id: str, packed: bool = False) -> Path:
        """Return the path of an identity's tar. In the packed layout it stays in ``state/`` until all are packed."""
        return (self.state / "shards" if packed else self.shards) / identity_id[:2] / f"{identity_id}.tar"

    def committed(self) -> list[Path]:
        """Return the paths of all fragments, sorted by identity id."""
        return sorted(self.fragments.glob("??/*.parquet"), key=lambda path: path.name)

    def read_dataset(self, *needed: str) -> dict[str, Any]:
        """Read ``dataset.json``.

        Raises:
            DatasetError: the folder is not a finished dataset, or the file is damaged or lacks a needed key.
        """
        dataset = self._read(
            self.dataset_json, DatasetRecord, "not a finished dataset; finish it with `hifidata run` first"
        )
        if missing := sorted(set(needed) - dataset.keys()):
            raise DatasetError(
                f"{self.dataset_json}: lacks {', '.join(missing)}; copy it again, or run the recipe again"
            )
        return dataset

    def read_run(self) -> dict[str, Any]:
        """Read the record of the last run: ``run.json``, or ``dataset.json`` of a finished dataset without ``state/``.

        Raises:
            DatasetError: no run was started in this folder, or the file is damaged.
        """
        if self._is_finished_without_state():
            return self.read_dataset()
        return self._read(self.run_json, RunRecord, "not a dataset folder; pass the folder of `hifidata run --out`")

    def write_run(self, content: Mapping[str, Any]) -> None:
        """Write ``run.json`` with its sha256."""
        write_json(self.run_json, with_digest(content), private=True)

    def recipe_hashes(self) -> frozenset[str]:
        """Return the recipe's hash and its hashes in earlier versions of hifidata; empty before the first run."""
        if not self.run_json.exists():
            return frozenset()
        run = self.read_run()
        return frozenset((run["recipe_hash"], *run.get("earlier_hashes", ())))

    def require_state(self) -> None:
        """Check that a run can extend the folder. Raises DatasetError for a finished dataset without ``state/``."""
        if self._is_finished_without_state():
            raise DatasetError(
                f"--out {self.root}: this finished dataset has no state/ folder, so it cannot be extended; choose another --out"
            )

    def _is_finished_without_state(self) -> bool:
        # Other tools also write a dataset.json, so its keys are checked.
        if self.run_json.exists() or not self.dataset_json.exists():
            return False
        try:
            dataset = self.read_dataset()
        except DatasetError:
            return False
        return dataset.keys() >= {"recipe", "recipe_hash", "started_at", "counts"}

    def _read(self, path: Path, shape: type[BaseModel], otherwise: str) -> dict[str, Any]:
        try:
            return read_object(path, shape)
        except (FileNotFoundError, NotADirectoryError):
            raise DatasetError(f"{self.root}: {otherwise}") from None
        except (OSError, ValueError) as error:
            remedy = (
                "delete it and run again" if path == self.dataset_json else "copy it again, or choose another --out"
            )
            raise DatasetError(f"{path}: cannot be read ({error}); {remedy}") from error

    def create(self) -> None:
        """Create the folder. Raises DatasetError if it exists, is not empty and is not a dataset."""
        try:
            if self.root.exists() and not self.run_json.exists() and not self._is_untouched():
                raise DatasetError(f"--out {self.root}: is not empty and not a dataset folder; choose another folder")
            self.root.mkdir(parents=True, exist_ok=True)
            self.state.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DatasetError(
                f"--out {self.root}: cannot be created ({error.strerror}); choose another folder"
            ) from error

    def _is_untouched(self) -> bool:
        # A run that was killed before its first write leaves these paths.
        ours = {self.state, self.state / "lock", self.source_index}
        return all(path in ours or self.source_index in path.parents for path in self.root.rglob("*"))

    def require_no_links(self, *folders: Path) -> None:
        """Raise DatasetError if one of the folders (default: all) is or contains a link: files there are replaced."""
        for folder in folders or self._own_folders:
            if (link := find_link(folder)) is not None:
                raise DatasetError(
                    f"{link}: is a link, and the files behind it would be changed; replace it by a copy, or choose another folder"
                )

    @property
    def _own_folders(self) -> tuple[Path, ...]:
        return self.shards, self.manifests, self.state, self.originals, self.report

    def _remove_temporary(self) -> None:
        for folder in self._own_folders:
            remove_temporary(folder)
        for leftover in self.root.glob(f"{TEMPORARY_PREFIX}*"):
            leftover.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one run. Leftovers of killed runs are removed first, those of this run at the end.

        Raises:
            FolderLockedError: another process holds the folder.
            DatasetError: the folder contains a link.
        """
        self.require_no_links()
        with locked(self.state / "lock", f"{self.root}: another run holds this folder"):
            self._remove_temporary()
            try:
                yield
            finally:
                self._remove_temporary()


def write_json(path: Path, content: Mapping[str, Any], private: bool = False) -> None:
    """Write indented JSON atomically; see ``atomic_file``.

    Bytes of file names that are not UTF-8 become escapes such as ``\\udce9``.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode(errors="backslashreplace"), private)
