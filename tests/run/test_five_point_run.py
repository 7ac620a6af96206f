"""A complete run with a detector that has five points but no landmarks, and an embedder aligned by these points."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hifidata.config.recipe import load_recipe
from hifidata.run.replay import replay
from hifidata.run.run import RunOptions, run
from tests.conftest import PROJECT_ROOT

STRANGER = "knn__train__rose_leslie__img1.jpg"


@pytest.fixture(scope="module")
def dataset(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a dataset of two identities with five photos each. The first folder also has a photo of another person."""
    root = tmp_path_factory.mktemp("five-point")
    samples, faces = assets / "faces" / "human-samples", assets / "faces" / "face_recognition"
    files = {
        "Anna_Example": [*sorted(samples.glob("stock-emotions-a-*.jpg"))[:5], faces / STRANGER],
        "Bea_Example": sorted(samples.glob("stock-emotions-b-*.jpg"))[:5],
    }
    for name, paths in files.items():
        (root / "photos" / name).mkdir(parents=True)
        for path in paths:
            shutil.copy(path, root / "photos" / name)
    recipe = load_recipe(
        PROJECT_ROOT / "pipelines" / "folder.yaml",
        [f"source.path={root / 'photos'}", "detect.model=scrfd_2.5g", "verify.model=mobilefacenet",
         "verify.min_images=2", "watermark.model=null", "landmarks.model=null", "crop.output_px=256", "executor.kind=local",
         f"weights.folder={assets / 'weights'}"],
    )  # fmt: skip
    run(recipe, RunOptions(root / "out"), lambda progress: None)
    return root / "out"


def test_photos_are_kept_and_the_stranger_is_dropped_without_68_landmarks(dataset: Path) -> None:
    rows = pq.read_table(dataset / "manifests" / "images.parquet").to_pylist()
    kept = [row for row in rows if row["status"] == "kept"]
    assert len(kept) >= 7
    assert not [row for row in rows if row["status"] == "failed"]
    stranger = next(row for row in rows if row["source_uri"].endswith(STRANGER))
    assert stranger["reason"] == "other_person"
    for row in kept:
        assert row["detect_model"] == "scrfd_2.5g"
        assert row["embedding_model"] == "mobilefacenet"
        assert row["threshold"] is None
        assert len(row["embedding"]) == 128
        assert row["face_landmarks"] is row["portrait_landmarks"] is None
        assert abs(row["yaw_deg"]) < 60
        assert row["caption"]


def test_shards_without_detected_landmarks_contain_none(dataset: Path) -> None:
    for shard in dataset.glob("shards/*/*.tar"):
        with tarfile.open(shard) as tar:
            endings = {name.partition(".")[2] for name in tar.getnames()}
        assert endings == {"jpg", "txt", "json", "embedding.npy"}


def test_report_and_replay_work_without_landmarks(dataset: Path) -> None:
    models = {entry["stage"]: entry for entry in json.loads((dataset / "dataset.json").read_text())["models"]}
    assert models["verify"]["model"] == "mobilefacenet"
    page = (dataset / "report" / "index.html").read_text()
    assert "scrfd_2.5g" in page
    assert "too few identities" in page
    assert "hifimodel cannot be trained on this dataset" in (dataset / "README.md").read_text()
    result = replay(dataset, ["verify.min_similarity=0.99"])
    assert result.kept_after == 0
    assert result.kept_before > 0


def test_embeddings_have_l2_norm_one(dataset: Path) -> None:
    vectors = pq.read_table(dataset / "manifests" / "images.parquet", columns=["embedding"])["embedding"].drop_null()
    assert np.allclose([np.linalg.norm(vector) for vector in vectors.to_pylist()], 1, atol=1e-5)
