"""The restoration stage with synthetic GFPGAN graphs: used and refused restorations, and the portrait in the shard.

The graphs have GFPGAN's input and output and do simple arithmetic on pixels. Detector and embedder are real.
"""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hifidata.config.recipe import Recipe, load_recipe
from hifidata.config.sections import STAGE_NAMES
from hifidata.core.errors import RecipeError
from hifidata.image.decode import Limits, decode
from hifidata.run.identity_batch import IdentityBatch, batch_from_bytes, batch_to_bytes, open_batch
from hifidata.run.plan import open_source
from hifidata.run.worker import Worker
from hifidata.store.shards import read_samples
from hifidata.weights.catalogue import CATALOGUE
from tests.conftest import PROJECT_ROOT
from tests.factories.graphs import make_graph

FACES = ([1, 3, 512, 512], [1, 3, 512, 512])
POOL = {"kernel_shape": [49, 49], "pads": [24] * 4, "count_include_pad": 0}
HALVED = {"kernel_shape": [2, 2], "strides": [2, 2]}
CONSTANTS = {"two": [2.0], "gain": [0.9], "lift": [0.08]}
GRAPHS: dict[str, list[Any]] = {
    "same": [("Identity", ["input"], "output")],
    "lighter": [("Mul", ["input", "gain"], "scaled"), ("Add", ["scaled", "lift"], "output")],
    "inverted": [("Neg", ["input"], "output")],
    "blurred": [("AveragePool", ["input"], "output", POOL)],
    "nan": [("Sub", ["input", "two"], "below"), ("Log", ["below"], "output")],
    "halved": [("AveragePool", ["input"], "output", HALVED)],
}
RECIPE = (
    "detect.model=scrfd_2.5g", "landmarks.model=null", "quality.model=null", "watermark.model=null", "verify.model=mobilefacenet",
    "verify.min_images=1", "verify.min_similarity=0.3", "executor.kind=local",
)  # fmt: skip


@pytest.fixture
def photos(assets: Path, tmp_path: Path) -> Path:
    person = tmp_path / "photos" / "person_0"
    person.mkdir(parents=True)
    for number in (3, 7):
        shutil.copy(assets / "faces" / "human-samples" / f"stock-emotions-a-{number}.jpg", person)
    return person.parent


@pytest.fixture
def weights(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set up real weights, and an empty cache folder for a synthetic GFPGAN, whose hash is not checked."""
    monkeypatch.setitem(CATALOGUE, "gfpgan_onnx", replace(CATALOGUE["gfpgan_onnx"], n_bytes=None, sha256=None))  # type: ignore[arg-type]
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("HIFI_WEIGHTS", str(assets / "weights"))
    monkeypatch.setenv("HIFI_WEIGHTS_CACHE", str(cache))
    return cache


def recipe_with(photos: Path, weights: Path, graph: str | None, *overrides: str) -> Recipe:
    if graph is not None:
        out = [1, 3, 256, 256] if graph == "halved" else FACES[1]
        used = {name for node in GRAPHS[graph] for name in node[1]}
        constants = {name: value for name, value in CONSTANTS.items() if name in used}
        make_graph(weights / "GFPGANv1.4.onnx", GRAPHS[graph], (FACES[0], out), constants)
    model = "null" if graph is None else "gfpgan"
    settings = [f"source.path={photos}", f"restore.model={model}", *RECIPE, *overrides]
    return load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", settings)


def process(recipe: Recipe, out: Path, cuts: tuple[str, ...] = ()) -> tuple[Worker, IdentityBatch]:
    """Run all stages on the only identity, in worker groups that end before the stages in ``cuts``."""
    edges = [0, *(STAGE_NAMES.index(cut) for cut in cuts), len(STAGE_NAMES)]
    source = open_source(recipe)
    task = next(iter(source.identities()))
    batch = None
    for start, end in itertools.pairwise(edges):
        worker = Worker(recipe, STAGE_NAMES[start:end], source, out)
        if batch is None:
            batch = worker.run(open_batch(task, worker.make_sample))
        else:
            batch = worker.run(batch_from_bytes(batch_to_bytes(batch, worker.columns), worker.make_sample))
    assert batch is not None
    assert len(batch.alive) == 2
    return worker, batch


def run_stages(recipe: Recipe, tmp_path: Path) -> IdentityBatch:
    return process(recipe, tmp_path / "out")[1]


def pixels(jpeg: bytes | None) -> np.ndarray:
    assert jpeg is not None
    return decode(jpeg, Limits()).rgb_u8.astype(np.int16)


def test_a_synthetic_graph_that_changes_nothing_is_used_with_a_cosine_near_one(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    plain = run_stages(recipe_with(photos, weights, None), tmp_path)
    batch = run_stages(recipe_with(photos, weights, "same"), tmp_path)
    for row, sample, before in zip(batch.rows, batch.samples, plain.samples, strict=True):
        assert row["restored"] is True
        assert row["restore_cosine"] > 0.99
        assert row["restore_model"] == "gfpgan"
        assert row["restore_message"] is None
        assert np.abs(pixels(sample.portrait_jpeg) - pixels(before.portrait_jpeg)).mean() < 2


@pytest.mark.parametrize("graph", ["inverted", "blurred"])
def test_a_synthetic_graph_that_changes_the_face_is_refused_and_the_unrestored_portrait_is_kept(
    photos: Path, weights: Path, tmp_path: Path, graph: str
) -> None:
    plain = run_stages(recipe_with(photos, weights, None), tmp_path)
    batch = run_stages(recipe_with(photos, weights, graph), tmp_path)
    for row, sample, before in zip(batch.rows, batch.samples, plain.samples, strict=True):
        assert row["restored"] is False
        assert row["restore_cosine"] < 0.85
        assert "the recipe requires 0.850" in row["restore_message"]
        assert sample.portrait_jpeg == before.portrait_jpeg
        assert sample.thumbnail == before.thumbnail


@pytest.mark.parametrize(
    ("graph", "message"), [("nan", "NaN or infinite pixels"), ("halved", "shape (256, 256, 3), expected (512, 512, 3)")]
)
def test_a_synthetic_graph_with_invalid_output_is_refused_with_a_message(
    photos: Path, weights: Path, tmp_path: Path, graph: str, message: str
) -> None:
    plain = run_stages(recipe_with(photos, weights, None), tmp_path)
    batch = run_stages(recipe_with(photos, weights, graph), tmp_path)
    for row, sample, before in zip(batch.rows, batch.samples, plain.samples, strict=True):
        assert row["restored"] is False
        assert row["restore_cosine"] is None
        assert message in row["restore_message"]
        assert sample.portrait_jpeg == before.portrait_jpeg


def test_without_a_restorer_the_columns_are_null(photos: Path, weights: Path, tmp_path: Path) -> None:
    for row in run_stages(recipe_with(photos, weights, None), tmp_path).rows:
        assert row.get("restored") is row.get("restore_cosine") is row.get("restore_model") is None


def test_the_recipe_sets_the_smallest_cosine(photos: Path, weights: Path, tmp_path: Path) -> None:
    batch = run_stages(recipe_with(photos, weights, "inverted", "restore.min_cosine=-1"), tmp_path)
    assert [row["restored"] for row in batch.rows] == [True, True]


def test_identity_is_verified_on_the_unrestored_face(photos: Path, weights: Path, tmp_path: Path) -> None:
    plain = run_stages(recipe_with(photos, weights, None), tmp_path)
    batch = run_stages(recipe_with(photos, weights, "inverted", "restore.min_cosine=-1"), tmp_path)
    for row, before in zip(batch.rows, plain.rows, strict=True):
        np.testing.assert_array_equal(row["embedding"], before["embedding"])
        assert row["similarity"] == before["similarity"]


@pytest.mark.parametrize("cuts", [("restore",), ("matting",), ("landmarks",), ("embed", "restore", "landmarks")])
def test_the_shard_contains_the_restored_portrait_for_every_split_into_worker_groups(
    photos: Path, weights: Path, tmp_path: Path, cuts: tuple[str, ...]
) -> None:
    later_stages = ("matting.model=selfie", "face3d.model=tddfa", "landmarks.model=face3d")
    recipe = recipe_with(photos, weights, "lighter", *later_stages)
    shards = []
    for out, groups in ((tmp_path / "one", ()), (tmp_path / "several", cuts)):
        worker, batch = process(recipe, out, groups)
        assert [row["restored"] for row in batch.rows] == [True, True]
        worker.commit(batch)
        shards.append(next(out.rglob("*.tar")))
    assert shards[0].read_bytes() == shards[1].read_bytes()
    plain = run_stages(recipe_with(photos, weights, None), tmp_path)
    for (_, members), sample in zip(read_samples(shards[1]), plain.samples, strict=True):
        change = np.abs(pixels(members["jpg"]) - pixels(sample.portrait_jpeg)).max(axis=2)
        assert change[512, 512] > 4  # the face
        assert change[-40:].max() <= 3  # below the face, one more JPEG compression at quality 95


def test_the_thumbnail_shows_the_restored_portrait(photos: Path, weights: Path, tmp_path: Path) -> None:
    plain = run_stages(recipe_with(photos, weights, None), tmp_path)
    batch = run_stages(recipe_with(photos, weights, "lighter"), tmp_path)
    for sample, before in zip(batch.samples, plain.samples, strict=True):
        assert sample.thumbnail
        assert sample.thumbnail != before.thumbnail


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("source.already_restored=true",), "source.already_restored is true; set restore.model to null"),
        (("verify.model=null",), "restore.model is set, but verify.model is null"),
    ],
)
def test_an_invalid_restoration_is_refused_with_the_recipe(
    photos: Path, weights: Path, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_with(photos, weights, "same", *overrides)


def test_an_already_restored_source_runs_without_a_restorer(photos: Path, weights: Path) -> None:
    assert recipe_with(photos, weights, None, "source.already_restored=true").restore.model is None
