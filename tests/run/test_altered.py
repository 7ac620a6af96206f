"""What happened to a finished dataset after its run is noticed, said in one line, and mended where it can be."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hifidata.cli import main
from hifidata.errors import DatasetError
from hifidata.recipe import Recipe, load_recipe
from hifidata.run.engine import RunOptions, RunResult, run
from hifidata.store.check import check
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE, digest

MANIFESTS = ("images", "identities", "thumbnails")


def recipe_for(photos: Path, *overrides: str) -> Recipe:
    return load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [f"source.path={photos}", *QUICK_RECIPE, *overrides])


def run_again(out: Path, recipe: Recipe) -> RunResult:
    return run(recipe, RunOptions(out, limit=3), lambda progress: None)


@pytest.fixture(scope="module")
def recipe(twelve_people: Path) -> Recipe:
    return recipe_for(twelve_people)


@pytest.fixture(scope="module")
def made(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dataset; tests take a copy."""
    out = tmp_path_factory.mktemp("made") / "out"
    run_again(out, recipe)
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


class Command:
    """Runs ``hifidata ...`` here and keeps what it said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *args: object) -> tuple[int, str, str]:
        self._monkeypatch.setattr("sys.argv", ["hifidata", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err


@pytest.fixture
def hifidata(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def drop_rows(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


ALTERED = pytest.mark.parametrize("alter", [cut, drop_rows, flip_a_bit])


@ALTERED
@pytest.mark.parametrize("name", MANIFESTS)
def test_an_altered_manifest_is_found_by_check_refused_by_report_and_made_again_by_run(
    name: str, alter: Callable[[Path], None], out: Path, made: Path, recipe: Recipe, hifidata: Command
) -> None:
    path = out / "manifests" / f"{name}.parquet"
    alter(path)
    code, said, _ = hifidata("check", out, "--json")
    found = json.loads(said)
    assert (code, found["n_shards"], found["n_right"], found["n_manifests"], found["n_manifests_right"]) == (
        1,
        3,
        3,
        3,
        2,
    )
    assert list(found["problems"]) == [f"manifests/{name}.parquet"]
    code, _, error = hifidata("report", out)
    assert (code, error.count("\n")) == (2, 1)
    assert f"{path}: " in error
    assert "run the recipe again, which writes it anew" in error
    shards = {shard: shard.stat().st_mtime_ns for shard in out.glob("shards/*/*.tar")}
    assert not run_again(out, recipe).did_nothing
    assert digest(out) == digest(made)
    assert {shard: shard.stat().st_mtime_ns for shard in shards} == shards
    assert run_again(out, recipe).did_nothing
    assert hifidata("report", out)[0] == hifidata("check", out)[0] == 0


def test_a_missing_manifest_is_named_unless_the_copy_holds_the_shards_alone(out: Path) -> None:
    assert (check(out).n_manifests, check(out).n_manifests_right, check(out).problems) == (3, 3, {})
    (out / "manifests" / "thumbnails.parquet").unlink()
    assert check(out).problems["manifests/thumbnails.parquet"].startswith("missing: copy it again")
    shutil.rmtree(out / "manifests")
    assert (check(out).n_manifests, check(out).problems) == (0, {})


def test_a_dataset_that_lists_no_manifests_is_complete_and_its_damage_still_one_line(
    out: Path, recipe: Recipe, hifidata: Command
) -> None:
    edit_json(out / "dataset.json", lambda content: content.pop("manifests"))
    assert check(out).n_manifests == 0
    assert run_again(out, recipe).did_nothing
    assert hifidata("report", out)[0] == 0
    for name in MANIFESTS:
        cut(out / "manifests" / f"{name}.parquet")
    for command in ("report", "calibrate"):
        code, _, error = hifidata(command, out)
        assert (code, error.count("\n")) == (2, 1)
        assert ".parquet: damaged" in error
        assert "delete it and run the recipe again" in error
    for name in MANIFESTS:
        (out / "manifests" / f"{name}.parquet").unlink()
    run_again(out, recipe)
    assert check(out).n_manifests_right == 3


@pytest.mark.parametrize("entry", ["x", {"path": "../x.parquet", "bytes": 1, "sha256": ""}, {"path": "manifests/x"}])
def test_a_list_of_manifests_that_is_none_of_ours_is_refused(entry: object, out: Path, recipe: Recipe) -> None:
    edit_json(out / "dataset.json", lambda content: content.update(manifests=[entry]))
    for look in (check, lambda out: run_again(out, recipe)):
        with pytest.raises(DatasetError, match="does not list manifests as hifidata does"):
            look(out)


@pytest.mark.parametrize("alter", [cut, drop_rows, Path.unlink])
def test_an_altered_table_of_people_costs_no_work_where_the_packs_are_whole(
    alter: Callable[[Path], None], twelve_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, recipe = tmp_path / "out", recipe_for(twelve_people, "output.layout=packed")
    run_again(out, recipe)
    before = digest(out)
    alter(out / "manifests" / "identities.parquet")
    with monkeypatch.context() as patched:
        patched.setattr("hifidata.run.engine._execute", lambda *args: pytest.fail("people are done anew"))
        run_again(out, recipe)
    assert digest(out) == before
    cut(out / "manifests" / "identities.parquet")
    cut(out / "shards" / "pack-000000.tar")
    run_again(out, recipe)
    assert digest(out) == before
