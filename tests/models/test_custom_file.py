"""Model files of the user's own, under any name, for an architecture that a recipe names: real networks throughout."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from hifidata.config.recipe import Recipe, load_recipe, resolve
from hifidata.config.sections import VerifyConfig
from hifidata.core.errors import DatasetError, RecipeError, WeightsError
from hifidata.models import registry
from hifidata.run.plan import make_plan
from hifidata.run.replay import replay
from hifidata.run.requirements import needed_weights, require_weights
from hifidata.run.run import RunOptions, run
from hifidata.weights.search_path import searching
from tests.conftest import PROJECT_ROOT


@pytest.fixture
def files(assets: Path, tmp_path: Path) -> dict[str, Path]:
    """SCRFD and MobileFaceNet under names that no catalogue knows."""
    weights = assets / "weights"
    originals = {
        "detector": weights / "scrfd" / "scrfd_500m_bnkps.onnx",
        "embedder": weights / "mobilefacenet" / "MobileFaceNet.onnx",
    }
    return {name: Path(shutil.copy(path, tmp_path / f"my {name}.onnx")) for name, path in originals.items()}


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def recipe_of(files: dict[str, Path], **verify: Any) -> Recipe:
    sections = {
        "detect": {"model": "retinaface", "file": str(files["detector"])},
        "verify": {"model": "arcface", "file": str(files["embedder"]), "normalisation": "imagenet", **verify},
        "quality": {"model": None}, "watermark": {"model": None}, "landmarks": {"model": None},
    }  # fmt: skip
    return resolve({"name": "t", "source": {"kind": "folder", "path": "photos"}, **sections}, "t")


def test_own_files_run_and_are_told_by_their_hash_a_changed_one_is_noticed_and_a_replay_needs_none(
    assets: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "photos" / "somebody").mkdir(parents=True)
    for number in (3, 5, 7):
        shutil.copy(
            assets / "faces" / "human-samples" / f"stock-emotions-a-{number}.jpg", tmp_path / "photos" / "somebody"
        )
    overrides = [
        f"source.path={tmp_path / 'photos'}", "executor.kind=local", "crop.output_px=256", "quality.model=null",
        "watermark.model=null", "landmarks.model=null", "detect.model=retinaface", f"detect.file={files['detector']}",
        "verify.model=arcface", f"verify.file={files['embedder']}", "verify.normalisation=imagenet",
        "verify.min_similarity=0.35", "verify.min_images=1", "dedup.enabled=false",
    ]  # fmt: skip
    folder, out = PROJECT_ROOT / "pipelines" / "folder.yaml", tmp_path / "out"
    result = run(load_recipe(folder, overrides), RunOptions(out), lambda progress: None)
    hashes = {name: sha256_of(path) for name, path in files.items()}
    kept = [row for row in pq.read_table(out / "manifests" / "images.parquet").to_pylist() if row["status"] == "kept"]
    assert kept
    for row in kept:
        assert row["detect_model"] == f"retinaface@{hashes['detector'][:12]}"
        assert row["embedding_model"] == f"arcface@{hashes['embedder'][:12]}"
    models = {model["stage"]: model for model in result.dataset["models"]}
    assert (models["detect"]["file_sha256"], models["verify"]["file_sha256"]) == tuple(hashes.values())
    assert str(tmp_path) not in (out / "README.md").read_text()

    with files["embedder"].open("ab") as file:
        file.write(b"\x32\x01x")  # a doc_string: the same graph, other bytes
    with pytest.raises(DatasetError, match=rf"another recipe \(.*verify\.file_sha256: {hashes['embedder']} -> "):
        run(load_recipe(folder, overrides), RunOptions(out), lambda progress: None)
    files["embedder"].unlink()
    assert replay(out, ["verify.min_similarity=0.99"]).kept_after == 0


def test_an_own_file_gives_what_the_catalogues_gives(assets: Path, files: dict[str, Path]) -> None:
    recipe = recipe_of(files)
    face = [np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)]
    points = [np.array([[38, 52], [74, 52], [56, 72], [42, 92], [71, 92]], np.float32)]
    with searching(assets / "weights"):
        theirs = registry.load("verify", "mobilefacenet").embed(face, points, [None])
    ours = registry.load("verify", "arcface", recipe.verify).embed(face, points, [None])
    assert np.array_equal(ours, theirs)
    other = registry.load("verify", "arcface", recipe_of(files, normalisation=None).verify).embed(face, points, [None])
    assert not np.allclose(other, theirs, atol=0.01)


def test_a_file_of_the_catalogue_in_anothers_place_is_not_told_to_be_put_right_there(assets: Path) -> None:
    file = assets / "weights" / "scrfd" / "scrfd_500m_bnkps.onnx"
    section = VerifyConfig(model="mobilefacenet", file=str(file))
    with searching(assets / "weights"), pytest.raises(WeightsError) as caught:
        registry.load("verify", "mobilefacenet", section)
    assert str(caught.value).startswith(f"verify.file: {file}: another graph than expected")
    assert str(caught.value).endswith("name a file that fits mobilefacenet, or set verify.file to null")


def test_the_plan_says_whose_files_and_thresholds_they_are(files: dict[str, Path], tmp_path: Path) -> None:
    models = {row["stage"]: row for row in make_plan_of(recipe_of(files), tmp_path)}
    assert models["detect"]["licence"] == models["verify"]["licence"] == "yours (unknown)"
    assert models["detect"]["thresholds_from"] == "fixed threshold of retinaface, tuned for another file"
    assert models["verify"]["thresholds_from"].startswith(
        "k, min_similarity: default of arcface, tuned for another file"
    )
    stated = {row["stage"]: row for row in make_plan_of(recipe_of(files, k=1, min_similarity=0.3), tmp_path)}
    assert stated["verify"]["thresholds_from"] == "the recipe"
    assert needed_weights(recipe_of(files)) == []
    permissive = recipe_of(files).model_copy(update={"licence_policy": "permissive"})
    with pytest.raises(WeightsError, match=r"detect:retinaface \(yours \(unknown\)\).*verify:arcface \(yours"):
        make_plan(permissive)


def make_plan_of(recipe: Recipe, tmp_path: Path) -> list[dict[str, Any]]:
    (tmp_path / "photos" / "ann").mkdir(parents=True, exist_ok=True)
    (tmp_path / "photos" / "ann" / "1.jpg").write_bytes(b"no picture")
    source = recipe.source.model_copy(update={"path": str(tmp_path / "photos")})
    rows: list[dict[str, Any]] = make_plan(recipe.model_copy(update={"source": source})).as_dict()["models"]
    return rows


def test_where_a_file_lies_does_not_change_the_recipe_but_what_it_holds_does(
    files: dict[str, Path], tmp_path: Path
) -> None:
    before = recipe_of(files).hash
    moved = files | {"embedder": files["embedder"].rename(tmp_path / "elsewhere.onnx")}
    assert recipe_of(moved).hash == before
    assert recipe_of(files | {"embedder": files["detector"]}).hash != before
    assert Recipe.model_validate_json(recipe_of(moved).model_dump_json()).hash == before


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"detect": {"model": "scrfd_2.5g", "file": "/no/such.onnx"}}, "detect.file: /no/such.onnx cannot be read (No such"),
        ({"verify": {"file": "x.onnx"}}, "verify.file: model dlib_resnet reads no model file; set verify.model to one of arcface"),
        ({"quality": {"file_sha256": "0" * 64}}, "quality.file_sha256: set without quality.file"),
        ({"quality": {"file": "x", "file_sha256": "short"}}, "quality.file_sha256: String should match"),
        ({"verify": {"model": "arcface", "normalisation": "imagenet"}}, "verify.normalisation: needs your own file"),
        ({"verify": {"model": "arcface", "normalisation": "imagnet"}}, "verify.normalisation: Input should be"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_when_the_recipe_is_read(section: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve({"name": "t", "source": {"kind": "folder"}, "landmarks": {"model": None}, **section}, "t")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_the_one_the_recipe_states_or_not_of_that_kind_stops_the_run_before_any_work(
    files: dict[str, Path],
) -> None:
    stated = recipe_of(files, file_sha256="0" * 64)
    with pytest.raises(
        WeightsError, match=rf"verify\.file: .* has sha256 {sha256_of(files['embedder'])}, expected 0000"
    ):
        require_weights(stated)
    confused = recipe_of({"detector": files["embedder"], "embedder": files["detector"]})
    with pytest.raises(WeightsError, match=r"my embedder\.onnx: another graph than expected"):
        require_weights(confused)
    no_detector = confused.model_copy(
        update={"detect": confused.detect.model_copy(update={"file": str(files["detector"])})}
    )
    with pytest.raises(WeightsError, match=r"detect\.file: .* has sha256"):
        require_weights(no_detector)


@pytest.mark.parametrize("scorer", ["ediffiqa", "modelscope_fqa"])
def test_quality_takes_an_own_file_too_and_a_real_embedder_is_none(files: dict[str, Path], scorer: str) -> None:
    quality = {"model": scorer, "file": str(files["embedder"])}
    section = resolve({"name": "t", "source": {"kind": "folder"}, "quality": quality}, "t").quality
    assert section.min_score == (registry.SCORERS[scorer].defaults or {})["min_score"]
    with pytest.raises(WeightsError, match=r"my embedder\.onnx: no graph of"):
        registry.load("quality", scorer, section)


def test_a_file_that_no_hash_vouches_for_is_tried_before_the_run(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FQA's published file has no known hash; here an embedder lies under its name."""
    (tmp_path / "weights").mkdir()
    files["embedder"].rename(tmp_path / "weights" / "fqa.onnx")
    monkeypatch.setenv("HIFI_WEIGHTS_CACHE", str(tmp_path / "cache"))
    more = {"quality": {"model": "modelscope_fqa"}, "weights": {"folder": str(tmp_path / "weights")}}
    recipe = resolve({"name": "t", "source": {"kind": "folder", "path": "photos"}, **more}, "t")
    with pytest.raises(WeightsError, match=r"fqa\.onnx: no graph of modelscope_fqa"):
        require_weights(recipe)


@pytest.mark.parametrize(
    ("section", "model", "words"),
    [
        ("detect", "retinaface", "not a complete ONNX graph"),
        ("detect", "yunet", "not a complete ONNX graph"),
        ("quality", "lightqnet", "not a complete TensorFlow graph of LightQNet"),
        ("verify", "arcface", "not a complete ONNX graph"),
    ],
)
def test_what_is_wrong_with_an_own_file_is_said_of_it_and_never_answered_with_a_download(
    section: str, model: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(b"no model")
    named = {section: {"model": model, "file": str(path)}, "landmarks": {"model": None}}
    more = {} if section == "verify" else {"verify": {"model": "mobilefacenet"}}
    recipe = resolve({"name": "t", "source": {"kind": "folder"}, **named, **more}, "t")
    with pytest.raises(WeightsError) as caught:
        registry.load(section, model, getattr(recipe, section))
    message = str(caught.value)
    assert message.startswith(f"{section}.file: {path}: {words}")
    assert message.endswith(f"name a file that fits {model}, or set {section}.file to null")
    assert "hifidata weights" not in message


def test_an_own_graph_of_another_kind_is_told_what_was_expected(files: dict[str, Path]) -> None:
    with pytest.raises(WeightsError) as caught:
        registry.load("detect", "retinaface", recipe_of(files | {"detector": files["embedder"]}).detect)
    message = str(caught.value)
    assert "it takes input0[1, 3, 112, 112], expected [1, 3, 640, 640]" in message
    assert "hifidata weights" not in message
