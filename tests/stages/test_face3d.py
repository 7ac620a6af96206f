"""The 3D face of a portrait: fitted by real models and stored in the shard, for every split into worker groups."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hifidata.config.recipe import Recipe, load_recipe
from hifidata.config.sections import STAGE_NAMES
from hifidata.core.errors import ModelError, RecipeError, WeightsError
from hifidata.models.face3d.base import FaceShape, face_from_arrays
from hifidata.models.face3d.mesh import MeshFitter
from hifidata.run.identity_batch import IdentityBatch, batch_from_bytes, batch_to_bytes, open_batch
from hifidata.run.plan import list_tasks, make_plan, open_source
from hifidata.run.worker import Worker
from hifidata.store.shards import members_of, read_samples
from hifimodel.landmarks import load_backend
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE

PHOTOS = ("stock-emotions-a-3.jpg", "stock-emotions-a-5.jpg", "stock-emotions-a-6.jpg")


@pytest.fixture
def photos(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIFI_WEIGHTS", str(assets / "weights"))
    person = tmp_path / "photos" / "person_0"
    person.mkdir(parents=True)
    for name in PHOTOS:
        with Image.open(assets / "faces" / "human-samples" / name) as image:
            image.reduce(2).save(person / name, quality=95)
    return person.parent


def recipe_for(photos: Path, *overrides: str) -> Recipe:
    settings = [*QUICK_RECIPE, "quality.model=null", "dedup.enabled=false", f"source.path={photos}", *overrides]
    return load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", settings)


def shard_of(recipe: Recipe, out: Path, cuts: Sequence[int] = ()) -> Path:
    """Process the only identity in worker groups that start at the stages ``cuts``; serialise the batch between them."""
    (task,) = list_tasks(recipe, make_plan(recipe).candidates_of)
    edges = [0, *cuts, len(STAGE_NAMES)]
    batch: IdentityBatch | None = None
    for first, last in pairwise(edges):
        worker = Worker(recipe, STAGE_NAMES[first:last], open_source(recipe), out)
        start = open_batch(task, worker.make_sample) if batch is None else None
        batch = worker.run(start or batch_from_bytes(batch_to_bytes(batch, worker.columns), worker.make_sample))  # type: ignore[arg-type]
    outcome = worker.commit(batch)
    assert outcome.n_kept == len(PHOTOS), [row.get("message") for row in batch.rows]
    (shard,) = out.glob("shards/*/*.tar")
    return shard


def stored_face(members: dict[str, bytes]) -> tuple[str, FaceShape, np.ndarray]:
    with np.load(io.BytesIO(members["face3d.npz"]), allow_pickle=False) as stored:
        face = face_from_arrays(str(stored["model"]), stored)
        return str(stored["model"]), face, np.load(io.BytesIO(members["landmarks.npy"]))


def test_hifimodel_projects_the_stored_3ddfa_faces_onto_their_portraits(
    photos: Path, assets: Path, tmp_path: Path
) -> None:
    backend = load_backend("tddfa", assets / "weights" / "3ddfa")
    samples = read_samples(shard_of(recipe_for(photos, "face3d.model=tddfa"), tmp_path / "out"))
    assert len(samples) == len(PHOTOS)
    for _, members in samples:
        with np.load(io.BytesIO(members["face3d.npz"]), allow_pickle=False) as stored:
            points_px = backend.project(backend.from_stored(None, dict(stored)))
        landmarks_px = np.load(io.BytesIO(members["landmarks.npy"]))
        inter_ocular_px = np.linalg.norm(landmarks_px[42:48].mean(axis=0) - landmarks_px[36:42].mean(axis=0))
        assert np.linalg.norm(points_px - landmarks_px, axis=1)[17:].mean() < 0.12 * inter_ocular_px


@pytest.mark.parametrize("model", ["tddfa", "mesh"])
@pytest.mark.parametrize(
    "verified", [(), ("verify.model=null",)]
)  # without the identity stage verify, face3d is in the chunk of the earlier stages
def test_the_shard_is_the_same_for_every_split_into_worker_groups(
    model: str, verified: tuple[str, ...], photos: Path, tmp_path: Path
) -> None:
    recipe = recipe_for(photos, f"face3d.model={model}", "landmarks.model=face3d", *verified)
    at = STAGE_NAMES.index("face3d")
    whole = shard_of(recipe, tmp_path / "whole").read_bytes()
    for number, cuts in enumerate(([at], [at, at + 1])):
        assert shard_of(recipe, tmp_path / f"split{number}", cuts).read_bytes() == whole


def test_landmarks_of_the_3d_face_model_are_stored_if_the_recipe_selects_them(photos: Path, tmp_path: Path) -> None:
    own, model = (
        read_samples(shard_of(recipe_for(photos, "face3d.model=mesh", f"landmarks.model={source}"), tmp_path / source))
        for source in ("detector", "face3d")
    )
    for (_, by_detector), (_, by_model) in zip(own, model, strict=True):
        name, face, landmarks_px = stored_face(by_model)
        assert (name, face.shape.size, face.expression.size, face.pose.size) == ("mesh", 1404, 0, 9)
        detector_px = np.load(io.BytesIO(by_detector["landmarks.npy"]))
        inter_ocular_px = np.linalg.norm(detector_px[42:48].mean(axis=0) - detector_px[36:42].mean(axis=0))
        apart = np.linalg.norm(landmarks_px - detector_px, axis=1) / inter_ocular_px
        assert 0 < apart[17:].mean() < 0.1
        rotation = face.pose.reshape(3, 3)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)


def test_without_a_model_no_3d_face_is_stored(photos: Path, tmp_path: Path) -> None:
    for _, members in read_samples(shard_of(recipe_for(photos), tmp_path / "out")):
        assert "face3d.npz" not in members
        assert "landmarks.npy" in members


def test_the_npz_has_the_same_bytes_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "face3d_model": "tddfa",
        "face3d_shape": [1.0],
        "face3d_expression": [],
        "face3d_pose": [2.0],
        "face3d_camera": [3.0],
    }
    before = members_of(row, b"")["face3d.npz"]
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    assert members_of(row, b"")["face3d.npz"] == before


def test_invalid_face3d_settings_are_refused_before_any_work(photos: Path, assets: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"face3d\.model is null; set it to tddfa or mesh"):
        recipe_for(photos, "landmarks.model=face3d")
    with pytest.raises(RecipeError, match="unknown model 'flame'; known: mesh, tddfa"):
        recipe_for(photos, "face3d.model=flame")
    with pytest.raises(WeightsError, match="another graph than expected"):
        MeshFitter(assets / "weights" / "3ddfa" / "mb05_120x120.onnx")
    fitter = MeshFitter(assets / "weights" / "mediapipe" / "face_landmark.onnx")
    with pytest.raises(ModelError, match="coincide"):
        fitter.fit(np.zeros((64, 64, 3), np.uint8), np.zeros((5, 2), np.float32), None)
