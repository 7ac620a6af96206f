"""Runs on folders and tars of other tools: every image is a row, and captions beside images are used."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hifidata.config.recipe import load_recipe
from hifidata.core.errors import RecipeError
from hifidata.run.run import RunOptions, run
from hifidata.store.shards import read_samples
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE


def run_on(out: Path, source: str, *overrides: str) -> dict[str, Any]:
    recipe = load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [f"source={source}", *QUICK_RECIPE, *overrides])
    return run(recipe, RunOptions(out), lambda progress: None).dataset


def rows_of(out: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(out / "manifests" / "images.parquet").to_pylist())


def test_captions_beside_photos_are_the_captions_of_the_shards(demo_photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in" / "Eileen"
    folder.mkdir(parents=True)
    for number in (1, 2):
        shutil.copy(demo_photos / "Eileen_Collins" / f"portrait_0{number}.jpg", folder)
    (folder / "portrait_01.txt").write_text("a woman,\n  1girl, __long hair__ \x1b[31m", encoding="utf-8")
    source = json.dumps({"kind": "folder", "path": str(tmp_path / "in")})
    dataset = run_on(tmp_path / "out", source, "caption.model=sidecar", "dedup.enabled=false")
    assert dataset["counts"] | {"kept": 2, "candidates": 2} == dataset["counts"]
    assert dataset["caption_stand_ins"] == {"missing": 1}
    first, second = sorted(rows_of(tmp_path / "out"), key=lambda row: row["source_uri"])
    assert (first["caption"], first["caption_model"]) == ("a woman, 1girl, __long hair__ [31m", "sidecar")
    assert (second["caption_model"], second["caption_problem"]) == ("attributes", "missing")
    (shard,) = (tmp_path / "out" / "shards").rglob("*.tar")
    assert read_samples(shard)[0][1]["txt"].decode() == first["caption"]
    # The shards of this dataset are a source with captions, too.
    again = json.dumps({"kind": "shards", "path": str(shard)})
    run_on(tmp_path / "again", again, "caption.model=sidecar", "dedup.enabled=false")
    assert {row["caption"] for row in rows_of(tmp_path / "again")} == {first["caption"], second["caption"]}


def test_captions_beside_images_need_files() -> None:
    with pytest.raises(RecipeError, match=r"caption\.model is sidecar, but the source lists URLs"):
        load_recipe(PROJECT_ROOT / "pipelines" / "imdb_face.yaml", ["caption.model=sidecar"])


def test_candidates_that_the_source_judges_are_counted_by_the_first_stage(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "0.tar", "w") as tar:
        for name, data in (("a.jpg", b"x"), ("a.json", b'{"person": "ann"}'), ("b.jpg", b"x")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    source = json.dumps({"kind": "shards", "path": str(tmp_path / "in"), "identity_field": "person"})
    models = [f"{key}=null" for key in ("watermark.model", "quality.model", "verify.model")]
    dataset = run_on(tmp_path / "out", source, *models)
    assert (dataset["counts"]["candidates"], dataset["counts"]["failed"]) == (2, 2)
    (intake,) = (stage for stage in dataset["stages"] if stage["stage"] == "intake")
    assert (intake["in"], intake["failed"], intake["kept"]) == (2, 2, 0)
    assert {row["reason"] for row in rows_of(tmp_path / "out")} == {"bad_row", "not_image"}
    assert dataset["source_notes"] == ["source.path: members of the tars that are no images: 1 (1 .json)"]


def test_the_neutral_depth_is_not_in_the_hash() -> None:
    path = PROJECT_ROOT / "pipelines" / "folder.yaml"
    recipe = load_recipe(path)
    assert "depth" not in recipe.effect["source"]
    assert load_recipe(path, ["source.depth=1"]).hash == recipe.hash != load_recipe(path, ["source.depth=2"]).hash
