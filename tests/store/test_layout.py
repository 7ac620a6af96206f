"""A dataset folder refuses and preserves files of other tools, and reports damaged files with a remedy."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from hifidata.core.errors import ConservationError, DatasetError, FolderLockedError
from hifidata.core.files import TEMPORARY_PREFIX
from hifidata.store.fragments import identity_row, read_record
from hifidata.store.layout import DatasetFolder


def test_a_folder_with_other_files_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("x")
    with pytest.raises(DatasetError, match="is not empty and not a dataset folder"):
        DatasetFolder(tmp_path).create()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_another_project_with_a_state_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    for name in ("state/notes", "shards/ab/mine.tar", "data/.tmp-mine"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    with pytest.raises(DatasetError, match="is not empty and not a dataset folder"):
        DatasetFolder(tmp_path).create()
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 3


def test_temporary_files_are_removed_only_from_dataset_folders(tmp_path: Path) -> None:
    folder = DatasetFolder(tmp_path / "out")
    folder.create()
    left = (f"shards/ab/{TEMPORARY_PREFIX}x.tar-host-7", f"{TEMPORARY_PREFIX}dataset.json-host-7")
    mine = (f"mine/{TEMPORARY_PREFIX}keep", "shards/ab/.tmp-mine", ".tmp-mine")
    for name in (*left, *mine):
        (folder.root / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.root / name).write_text("x")
    with folder.lock():
        pass
    assert sorted(str(path.relative_to(folder.root)) for path in folder.root.rglob(".*")) == sorted(mine)


def test_an_error_names_the_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetError, match="cannot be created"):
        DatasetFolder(tmp_path / "file" / "out").create()


def test_a_second_holder_of_the_lock_is_refused(tmp_path: Path) -> None:
    folder = DatasetFolder(tmp_path / "out")
    folder.create()
    with (
        folder.lock(),
        pytest.raises(FolderLockedError, match="another run holds"),
        DatasetFolder(tmp_path / "out").lock(),
    ):
        pass
    with folder.lock():
        pass


@pytest.mark.parametrize("content", ["", "{", "[]x"])
def test_a_damaged_dataset_json_names_the_file_and_the_remedy(tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DatasetError, match=r"dataset\.json: cannot be read \(.*delete it and run again"):
        DatasetFolder(tmp_path).read_dataset()


def test_a_damaged_fragment_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(DatasetError, match="delete it and run again"):
        read_record(path)


def test_a_row_without_a_final_status_raises_an_error() -> None:
    with pytest.raises(ConservationError, match="2 candidates"):
        identity_row([{"status": "kept"}, {"status": None}], {"identity_id": "x"})


def test_a_flipped_bit_of_run_json_is_an_error_or_changes_nothing(tmp_path: Path) -> None:
    folder = DatasetFolder(tmp_path)
    run = {"recipe_hash": "ab" * 32, "started_at": "2026-01-01", "recipe": {"name": "x", "verify": {"k": 3}}}
    folder.write_run(run)
    data = folder.run_json.read_bytes()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 7
        folder.run_json.write_bytes(flipped)
        with suppress(DatasetError):
            found = folder.read_run()
            assert {key: found[key] for key in run} == run
