"""A run deletes and changes only files that this dataset wrote: none behind links, none of others in its folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hifidata.config.recipe import Recipe
from hifidata.core.errors import DatasetError, UsageError
from hifidata.report.calibration import choose
from hifidata.run.finish import write_reports
from hifidata.run.run import RunOptions, run
from hifidata.store.layout import DatasetFolder
from tests.conftest import digest


def run_again(out: Path, recipe: Recipe) -> None:
    (out / "dataset.json").unlink(missing_ok=True)  # so that the run ends with its clean-up
    run(recipe, RunOptions(out, limit=3), lambda progress: None)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name", ["shards", "originals", "manifests", "state", "report", "shards/00", "state/fragments", "state/crawl"]
)
def test_a_link_to_a_folder_of_others_is_refused_and_nothing_behind_it_changes(
    name: str, out: Path, recipe: Recipe, tmp_path: Path
) -> None:
    place, other = out / name, tmp_path / "other"
    if place.exists():
        place.rename(other)
    for path in ("ab/0123456789abcdef.tar", "0123456789abcdef.tar", ".hifi-tmp-x", "00/" + "0" * 64):
        (other / path).parent.mkdir(parents=True, exist_ok=True)
        (other / path).write_text("of others")
    place.symlink_to(other)
    before = files_of(other)
    with pytest.raises(DatasetError, match=rf"{name}: is a link, .*replace it by a copy, or choose another folder"):
        run_again(out, recipe)
    assert files_of(other) == before


def test_report_and_calibrate_write_through_no_link(out: Path, tmp_path: Path) -> None:
    dataset = DatasetFolder(out).read_dataset()
    for name in ("report", "manifests"):
        (out / name).rename(tmp_path / name)
        (out / name).symlink_to(tmp_path / name)
    before = files_of(tmp_path / "manifests") | files_of(tmp_path / "report")
    with pytest.raises(DatasetError, match="report: is a link"):
        write_reports(DatasetFolder(out), dataset)
    with pytest.raises(DatasetError, match="manifests: is a link"):
        choose(out, 0.01)
    assert files_of(tmp_path / "manifests") | files_of(tmp_path / "report") == before


@pytest.mark.parametrize("kind", ["link", "hard link", "folder", "fifo"])
def test_a_lock_that_is_no_lock_file_is_refused_and_left_as_it_is(
    kind: str, out: Path, recipe: Recipe, tmp_path: Path
) -> None:
    thesis, lock = tmp_path / "thesis.txt", out / "state" / "lock"
    thesis.write_text("years of work")
    lock.unlink()
    {"link": os.symlink, "hard link": os.link, "folder": lambda *_: lock.mkdir(), "fifo": lambda *_: os.mkfifo(lock)}[
        kind
    ](thesis, lock)
    with pytest.raises(
        UsageError, match=r"state/lock: (is a link|is not a lock file|is not a file|cannot be opened as a lock)"
    ):
        run_again(out, recipe)
    assert thesis.read_text() == "years of work"


def test_files_of_others_in_the_folders_of_a_dataset_stay(out: Path, made: Path, recipe: Recipe) -> None:
    others = {
        "shards/my/backup.tar", "shards/pack-mine.tar", "shards/01/0123456789abcdef.tar", "shards/.tmp-mine",
        "originals/my/photo.jpg", "originals/ab/notes", "state/mine", ".tmp-mine",
    }  # fmt: skip
    for name in others:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("of others")
    run_again(out, recipe)
    assert {name for name in others if (out / name).read_text() == "of others"} == others
    for name in others:
        (out / name).unlink()
    assert digest(out) == digest(made)


def test_the_shard_of_a_killed_commit_of_a_removed_identity_is_removed(out: Path, made: Path, recipe: Recipe) -> None:
    folder = DatasetFolder(out)
    shard, begun = folder.shard_path("0123456789abcdef"), folder.earlier_path("0123456789abcdef")
    for path in (shard, begun):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    run_again(out, recipe)
    assert not shard.exists()
    assert not begun.exists()
    assert digest(out) == digest(made)


def test_manifests_and_state_are_for_their_owner_alone_and_shards_follow_the_umask(made: Path) -> None:
    choose(made, 0.01)
    private = [path for name in ("manifests", "state") for path in (made / name).rglob("*") if path.is_file()]
    assert len(private) >= 7
    assert [path for path in private if path.stat().st_mode & 0o077] == []
    assert (made / "state").stat().st_mode & 0o077 == 0
    umask = os.umask(0o022)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in made.glob("shards/*/*.tar")} == {0o666 & ~umask}
