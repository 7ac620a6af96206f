"""Files are written atomically."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hifidata.core.errors import FolderLockedError, UsageError
from hifidata.core.files import TEMPORARY_PREFIX, atomic_file, locked, remove, remove_temporary


def test_an_exception_leaves_the_old_file_and_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with atomic_file(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_readers_see_the_old_file_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a"
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"new"


def test_a_folder_is_removed_with_its_last_file(tmp_path: Path) -> None:
    (tmp_path / "d4").mkdir()
    for name in ("a", "b"):
        (tmp_path / "d4" / name).write_bytes(b"")
    remove(tmp_path / "d4" / "a")
    assert [path.name for path in tmp_path.rglob("*")] == ["d4", "b"]
    remove(tmp_path / "d4" / "b")
    assert list(tmp_path.iterdir()) == []


def test_only_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for name in (f"{TEMPORARY_PREFIX}a.tar-77", "a.tar", ".tmp-of-another-program"):
        (tmp_path / "x" / name).write_bytes(b"")
    assert remove_temporary(tmp_path) == 1
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == [".tmp-of-another-program", "a.tar"]


def test_a_held_lock_names_its_holder_and_is_free_after_the_block(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock", "out: in use"),
        pytest.raises(FolderLockedError, match=rf"out: in use \(process {os.getpid()} on .+\); wait for it"),
        locked(tmp_path / "lock", "out: in use"),
    ):
        pass
    with locked(tmp_path / "lock", "out: in use"):
        pass


def test_a_lock_is_not_opened_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("years of work")
    (tmp_path / "lock").symlink_to(tmp_path / "thesis")
    with pytest.raises(UsageError, match="lock: is a link; remove it"), locked(tmp_path / "lock", "out: in use"):
        pass
    assert (tmp_path / "thesis").read_text() == "years of work"
