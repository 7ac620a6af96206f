"""Changes to a finished dataset are detected, reported in one line, and repaired if possible."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hifidata.config.recipe import Recipe, load_recipe
from hifidata.core.errors import DatasetError
from hifidata.run.run import RunOptions, RunResult, run
from hifidata.store.verify import check
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE, digest
from tests.factories import cli

MANIFESTS = ("images", "identities", "thumbnails")


def recipe_for(photos: Path, *overrides: str) -> Recipe:
    return load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [f"source.path={photos}", *QUICK_RECIPE, *overrides])


def run_again(out: Path, recipe: Recipe) -> RunResult:
    return run(recipe, RunOptions(out, limit=3), lambda progress: None)


def hifidata(*arguments: object) -> tuple[int, str, str]:
    """Run ``hifidata`` in this process. Return exit code, stdout and stderr."""
    done = cli.hifidata(*arguments)
    return done.returncode, done.stdout, done.stderr


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
def test_an_altered_manifest_is_found_by_check_refused_by_report_and_rewritten_by_run(
    name: str, alter: Callable[[Path], None], out: Path, made: Path, recipe: Recipe
) -> None:
    path = out / "manifests" / f"{name}.parquet"
    alter(path)
    code, stdout, _ = hifidata("check", out, "--json")
    found = json.loads(stdout)
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
    assert "run the recipe again, which rewrites it" in error
    shards = {shard: shard.stat().st_mtime_ns for shard in out.glob("shards/*/*.tar")}
    assert not run_again(out, recipe).did_nothing
    assert digest(out) == digest(made)
    assert {shard: shard.stat().st_mtime_ns for shard in shards} == shards
    assert run_again(out, recipe).did_nothing
    assert hifidata("report", out)[0] == hifidata("check", out)[0] == 0


def test_check_reports_a_missing_manifest_except_in_a_copy_with_shards_only(out: Path) -> None:
    assert (check(out).n_manifests, check(out).n_manifests_right, check(out).problems) == (3, 3, {})
    (out / "manifests" / "thumbnails.parquet").unlink()
    assert check(out).problems["manifests/thumbnails.parquet"].startswith("missing; copy it again")
    shutil.rmtree(out / "manifests")
    assert (check(out).n_manifests, check(out).problems) == (0, {})


def test_a_dataset_without_listed_manifests_is_complete_and_its_damage_gives_a_one_line_error(
    out: Path, recipe: Recipe
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
def test_a_malformed_list_of_manifests_is_refused(entry: object, out: Path, recipe: Recipe) -> None:
    edit_json(out / "dataset.json", lambda content: content.update(manifests=[entry]))
    for look in (check, lambda out: run_again(out, recipe)):
        with pytest.raises(DatasetError, match=r"dataset\.json: invalid list of manifests"):
            look(out)


@pytest.mark.parametrize("alter", [cut, drop_rows, Path.unlink])
def test_an_altered_identities_manifest_causes_no_reprocessing_if_the_packs_are_intact(
    alter: Callable[[Path], None], twelve_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, recipe = tmp_path / "out", recipe_for(twelve_people, "output.layout=packed")
    run_again(out, recipe)
    before = digest(out)
    alter(out / "manifests" / "identities.parquet")
    with monkeypatch.context() as patched:
        patched.setattr("hifidata.run.run._execute", lambda *args: pytest.fail("identities are reprocessed"))
        run_again(out, recipe)
    assert digest(out) == before
    cut(out / "manifests" / "identities.parquet")
    cut(out / "shards" / "pack-000000.tar")
    run_again(out, recipe)
    assert digest(out) == before


def test_a_removed_identity_leaves_no_empty_folder(twelve_people: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    for name in ("person_00", "person_01"):
        shutil.copytree(twelve_people / name, photos / name)
    run_again(out, recipe_for(photos))
    shutil.rmtree(photos / "person_00")
    run_again(out, recipe_for(photos))
    for folder in (out / "shards", out / "state" / "fragments"):
        assert len(list(folder.glob("??"))) == len(list(folder.glob("??/*"))) == 1


@pytest.fixture
def without_state(out: Path) -> Path:
    shutil.rmtree(out / "state")
    return out


def test_status_of_a_dataset_without_state_is_finished_with_the_same_counts(made: Path, without_state: Path) -> None:
    before, after = (json.loads(hifidata("status", out, "--json")[1]) for out in (made, without_state))
    assert after["finished"]
    assert after == before | {"report": after["report"]}


@pytest.mark.parametrize("layout", ["per_identity", "packed"])
def test_inspect_finds_the_same_rows_without_state(
    layout: str, made: Path, twelve_people: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if layout == "packed":
        run_again(out, recipe_for(twelve_people, "output.layout=packed"))
    else:
        shutil.copytree(made, out)
    kept = next(row for row in pq.read_table(out / "manifests" / "images.parquet").to_pylist() if row["key"])
    handles = ("person_00", kept["identity_id"], kept["image_id"], kept["key"], kept["source_uri"][-20:])
    before = [json.loads(hifidata("inspect", out, handle, "--json")[1]) for handle in handles]
    shutil.rmtree(out / "state")
    for handle, expected in zip(handles, before, strict=True):
        found = json.loads(hifidata("inspect", out, handle, "--json")[1])
        assert found["images"] == expected["images"]
        assert (found["identity"] is None) == (expected["identity"] is None)
        for column in ("identity_name", "n_kept", "shard", "shard_sha256"):
            assert found["identity"] is None or found["identity"][column] == expected["identity"][column]
    code, _, error = hifidata("inspect", out, "nobody")
    assert (code, error.count("\n")) == (2, 1)
    assert "no identity or image matches 'nobody'" in error


@pytest.mark.parametrize(
    "command",
    [["failures"], ["failures", "--dropped"], ["failures", "--captions"], ["replay", "--set", "quality.min_score=0.6"]],
)
def test_failures_and_replay_give_the_same_output_without_state(
    command: list[str], made: Path, without_state: Path
) -> None:
    name, *more = command
    before, after = (hifidata(name, out, *more, "--json") for out in (made, without_state))
    assert before[0] == 0
    assert after == before


def test_report_and_check_need_no_state(without_state: Path) -> None:
    assert hifidata("report", without_state)[0] == hifidata("check", without_state)[0] == 0


@pytest.mark.parametrize("emptied", [False, True])
def test_a_run_on_a_dataset_without_state_is_refused_in_one_line_and_changes_nothing(
    emptied: bool, without_state: Path, made: Path, twelve_people: Path
) -> None:
    if emptied:
        (without_state / "state").mkdir()
    sets = [word for value in (f"source.path={twelve_people}", *QUICK_RECIPE) for word in ("--set", value)]
    recipe = PROJECT_ROOT / "pipelines" / "folder.yaml"
    for more in ([], ["--accept-recipe-change"]):
        code, stdout, error = hifidata("run", recipe, "--out", without_state, *sets, *more)
        assert (code, stdout, error.count("\n")) == (2, "", 1)
        assert "this finished dataset has no state/ folder, so it cannot be extended; choose another" in error
    assert digest(without_state) == digest(made)
    assert (without_state / "state").exists() == emptied


@pytest.mark.parametrize("alter", [cut, drop_rows, Path.unlink])
def test_a_damaged_manifest_of_a_dataset_without_state_gives_a_one_line_error(
    alter: Callable[[Path], None], without_state: Path
) -> None:
    alter(without_state / "manifests" / "images.parquet")
    for command in (["failures"], ["replay"], ["inspect", "person_00"], ["inspect", "0.jpg"]):
        code, stdout, error = hifidata(command[0], without_state, *command[1:])
        assert (code, stdout, error.count("\n")) == (2, "", 1)
        assert "manifests/images.parquet" in error
        assert "copy it again" in error
    assert hifidata("status", without_state)[0] == 0


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"name": "of another tool"}'])
def test_a_folder_with_a_dataset_json_of_another_tool_is_no_dataset_folder(
    content: str, recipe: Recipe, tmp_path: Path
) -> None:
    (tmp_path / "dataset.json").write_text(content, encoding="utf-8")
    for command in (["status"], ["failures"], ["replay"], ["inspect", "x"]):
        code, _, error = hifidata(command[0], tmp_path, *command[1:])
        assert (code, error.count("\n")) == (2, 1)
        assert "not a dataset folder" in error
    with pytest.raises(DatasetError, match="is not empty and not a dataset folder"):
        run_again(tmp_path, recipe)
