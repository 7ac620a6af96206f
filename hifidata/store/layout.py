"""The dataset folder: its paths, its lock, and what it says about the run that made it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hifidata.core.errors import DatasetError
from hifidata.core.files import TEMPORARY_PREFIX, locked, remove_temporary, write_bytes


class DatasetFolder:
    """Paths of a dataset folder.

    ``state/`` holds what a resumed run needs: the recipe it was started with, a lock, and one fragment per committed
    identity. Everything else is the contract of docs and README.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.manifests = self.root / "manifests"
        self.shards = self.root / "shards"
        self.state = self.root / "state"
        self.calibration_json = self.manifests / "calibration.json"
        self.dataset_json = self.root / "dataset.json"
        self.run_json = self.state / "run.json"
        self.fragments = self.state / "fragments"
        self.originals = self.root / "originals"
        self.waiting_originals = self.state / "originals"
        self.source_index = self.state / "source"
        self.deaths = self.state / "deaths"

    def fragment_path(self, identity_id: str) -> Path:
        """Where the identity's commit record lies."""
        return self.fragments / identity_id[:2] / f"{identity_id}.parquet"

    def earlier_path(self, identity_id: str) -> Path:
        """Where the record lies that a new commit is about to replace."""
        return self.fragment_path(identity_id).with_suffix(".earlier")

    def shard_path(self, identity_id: str, packed: bool = False) -> Path:
        """Where the identity's own tar lies; with the packed layout it waits in ``state/`` until all are packed."""
        return (self.state / "shards" if packed else self.shards) / identity_id[:2] / f"{identity_id}.tar"

    def committed(self) -> list[Path]:
        """All fragments, sorted by identity id."""
        return sorted(self.fragments.glob("??/*.parquet"), key=lambda path: path.name)

    def read_dataset(self) -> dict[str, Any]:
        """``dataset.json``. Raises DatasetError where the folder is not a finished dataset."""
        return self._read_json(self.dataset_json, "not a finished dataset; run `hifidata run` on it first")

    def read_run(self) -> dict[str, Any]:
        """What the last run was started with; of a finished dataset without ``state/``, dataset.json, which says it, too.

        Raises:
            DatasetError: no run ever started here.
        """
        if self._is_finished_without_state():
            return self.read_dataset()
        return self._read_json(self.run_json, "not a dataset folder; give the folder that was passed as --out")

    def recipe_hashes(self) -> frozenset[str]:
        """Hashes by which the dataset's recipe is known: today's, and those of earlier versions; none before a run."""
        if not self.run_json.exists():
            return frozenset()
        run = self.read_run()
        return frozenset((run["recipe_hash"], *run.get("earlier_hashes", ())))

    def require_state(self) -> None:
        """Before a run. Raises DatasetError for a finished dataset whose ``state/`` was deleted."""
        if self._is_finished_without_state():
            raise DatasetError(
                f"--out {self.root}: its state/ was deleted, so this finished dataset can be read but not extended; "
                "choose another --out"
            )

    def _is_finished_without_state(self) -> bool:
        """Not where ``dataset.json`` is somebody else's: many tools use the name."""
        if self.run_json.exists() or not self.dataset_json.exists():
            return False
        try:
            dataset = self.read_dataset()
        except DatasetError:
            return False
        return isinstance(dataset, dict) and dataset.keys() >= {"recipe", "recipe_hash", "started_at", "counts"}

    def _read_json(self, path: Path, otherwise: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise DatasetError(f"{self.root}: {otherwise}") from None
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path}: cannot be read: {error}; delete it and run again") from error
        return content

    def create(self) -> None:
        """Makes the folder. Raises DatasetError where it holds something that is not a dataset."""
        try:
            if self.root.exists() and not self.run_json.exists() and not self._is_untouched():
                raise DatasetError(f"--out {self.root}: is not empty and not a dataset folder; choose another folder")
            self.state.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(f"--out {self.root}: cannot be made: {error.strerror}; choose another folder") from error

    def _is_untouched(self) -> bool:
        """Empty, or what a run that was killed before it wrote anything of its own leaves."""
        ours = {self.state, self.state / "lock", self.source_index}
        return all(path in ours or self.source_index in path.parents for path in self.root.rglob("*"))

    def _remove_temporary(self) -> None:
        for folder in (self.shards, self.manifests, self.state, self.originals, self.root / "report"):
            remove_temporary(folder)
        for leftover in self.root.glob(f"{TEMPORARY_PREFIX}*"):
            leftover.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one run. Leftovers of killed runs are removed first, those of this run at the end.

        Raises:
            FolderLockedError: another process holds the folder.
        """
        with locked(self.state / "lock", f"{self.root}: another run holds this folder"):
            self._remove_temporary()
            try:
                yield
            finally:
                self._remove_temporary()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON that a person can read and diff, atomically."""
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
