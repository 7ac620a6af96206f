"""Complete runs on real faces: verdicts, determinism across executors, conservation, replay."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hifidata.config.recipe import Recipe, load_recipe
from hifidata.config.sections import STAGE_NAMES
from hifidata.core.errors import DatasetError, RecipeError
from hifidata.run.replay import replay
from hifidata.run.run import RunOptions, RunResult, run
from hifidata.stages.table import OUR_STAGES
from hifidata.store.query import find
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE, digest

TWO_GROUPS = [
    {"name": "faces", "stages": STAGE_NAMES[:5], "num_cpus": 0.5},
    {"name": "rest", "stages": STAGE_NAMES[5:], "num_cpus": 0.5},
]


def recipe_for(photos: Path, *overrides: str) -> Recipe:
    return load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [f"source.path={photos}", *overrides])


def run_into(out: Path, recipe: Recipe) -> RunResult:
    return run(recipe, RunOptions(out), lambda progress: None)


@pytest.fixture(scope="module")
def demo(demo_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo-run") / "out"
    run_into(out, recipe_for(demo_photos, "executor.kind=local"))
    return out


def rows_of(out: Path) -> list[dict[str, object]]:
    return list(pq.read_table(out / "manifests" / "images.parquet").to_pylist())


def test_every_demo_photo_gets_its_expected_verdict(demo: Path, demo_photos: Path) -> None:
    from examples.demo.photos import EXPECTED

    ends = {
        str(row["source_uri"]).removeprefix(f"{demo_photos.resolve().as_posix()}/"): row["reason"] or row["status"]
        for row in rows_of(demo)
    }
    wrong = {path: (ends.get(path), str(end)) for path, end in EXPECTED.items() if ends.get(path) != str(end)}
    assert not wrong


def test_every_deciding_stage_keeps_and_drops_images(demo: Path) -> None:
    stages = {row["stage"]: row for row in json.loads((demo / "dataset.json").read_text())["stages"]}
    for name in ("intake", "detect", "crop", "quality", "watermark", "dedup", "verify"):
        assert stages[name]["kept"] > 0, name
        assert stages[name]["dropped"] + stages[name]["failed"] > 0, name


def test_candidates_are_conserved_in_total_and_for_each_identity(demo: Path, demo_photos: Path) -> None:
    rows = rows_of(demo)
    assert len(rows) == sum(path.is_file() for path in demo_photos.rglob("*"))
    assert len({row["image_id"] for row in rows}) == len(rows)
    by_status = Counter((row["identity_id"], row["status"]) for row in rows)
    for identity in pq.read_table(demo / "manifests" / "identities.parquet").to_pylist():
        counted = [by_status[identity["identity_id"], status] for status in ("kept", "dropped", "failed")]
        assert counted == [identity["n_kept"], identity["n_dropped"], identity["n_failed"]]
        assert sum(counted) == identity["n_candidates"]


def test_stages_that_did_not_run_leave_null(demo: Path, demo_photos: Path) -> None:
    off = [stage.name for stage in OUR_STAGES if not stage.runs(recipe_for(demo_photos))]
    assert {"occlusion", "restore", "matting", "face3d"} <= set(off)
    assert json.loads((demo / "dataset.json").read_text())["not_checked"] == off
    for row in rows_of(demo):
        assert (
            row["occlusion_answer"]
            is row["occlusion_terms"]
            is row["restored"]
            is row["restore_cosine"]
            is row["age"]
            is None
        )


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset leaves its file to the collector
def test_samples_are_1024_px_srgb_without_metadata_and_with_landmarks_on_the_face(demo: Path) -> None:
    import io

    import webdataset as wds
    from PIL import Image

    shards = [str(path) for path in sorted(demo.glob("shards/*/*.tar"))]
    samples = list(wds.WebDataset(shards, shardshuffle=False))
    assert len(samples) == sum(row["status"] == "kept" for row in rows_of(demo))
    for sample in samples:
        portrait = Image.open(io.BytesIO(sample["jpg"]))
        assert portrait.size == (1024, 1024)
        assert portrait.mode == "RGB"
        assert not portrait.getexif()
        assert b"GPS" not in sample["jpg"][:2000]
        landmarks = np.load(io.BytesIO(sample["landmarks.npy"]))
        assert landmarks.shape == (68, 2)
        assert 0.02 * 1024 < landmarks.min() < landmarks.max() < 0.98 * 1024
        np.testing.assert_allclose(np.linalg.norm(np.load(io.BytesIO(sample["embedding.npy"]))), 1, atol=1e-5)
        assert sample["txt"].decode().startswith("A ")


@pytest.fixture(scope="module")
def local_digest(twelve_people: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the digest of a run in one process."""
    out = tmp_path_factory.mktemp("local") / "out"
    run_into(out, recipe_for(twelve_people, *QUICK_RECIPE))
    return digest(out)


@pytest.mark.parametrize(
    "executor",
    [
        {"executor": {"kind": "local"}},
        {"executor": {"kind": "ray", "workers": 2}},
        {"executor": {"kind": "ray"}, "groups": TWO_GROUPS},
    ],
    ids=["local again", "two workers", "two groups"],
)
def test_local_and_ray_with_two_workers_or_two_groups_give_the_same_bytes(
    executor: dict[str, object], twelve_people: Path, local_digest: str, tmp_path: Path, ray_here: str
) -> None:
    recipe = recipe_for(twelve_people, *QUICK_RECIPE)
    run_into(tmp_path / "out", Recipe.model_validate(recipe.model_dump() | executor))
    assert digest(tmp_path / "out") == local_digest


def test_packed_shards_of_a_grown_source_equal_those_of_a_fresh_run(twelve_people: Path, tmp_path: Path) -> None:
    import shutil

    photos, out = tmp_path / "photos", tmp_path / "out"
    for number in (0, 1, 2):
        shutil.copytree(twelve_people / f"person_{number:02d}", photos / f"person_{number:02d}")
    packed = recipe_for(photos, *QUICK_RECIPE, "output.layout=packed")
    run_into(out, packed)
    assert [path.name for path in out.glob("shards/*")] == ["pack-000000.tar"]
    shutil.copytree(twelve_people / "person_03", photos / "person_03")
    run_into(out, packed)
    run_into(tmp_path / "fresh", packed)
    first = (out / "shards" / "pack-000000.tar").read_bytes()
    assert first == (tmp_path / "fresh" / "shards" / "pack-000000.tar").read_bytes()
    kept = [row for row in rows_of(out) if row["status"] == "kept"]
    assert {row["shard"] for row in kept} == {"shards/pack-000000.tar"}


def test_a_missing_or_truncated_pack_is_rewritten(twelve_people: Path, tmp_path: Path) -> None:
    import os

    out = tmp_path / "out"
    packed = recipe_for(twelve_people, *QUICK_RECIPE, "output.layout=packed")
    run(packed, RunOptions(out, limit=2), lambda progress: None)
    pack = out / "shards" / "pack-000000.tar"
    whole = pack.read_bytes()
    identity, rows = find(out, "person_00")
    assert identity is not None
    assert identity["shard"] == "shards/pack-000000.tar"
    assert {row["shard"] for row in rows if row["key"]} == {"shards/pack-000000.tar"}
    (row,) = find(out, next(str(row["key"]) for row in rows if row["key"]))[1]
    assert row["shard"] == "shards/pack-000000.tar"
    os.truncate(pack, len(whole) // 2)
    run(packed, RunOptions(out, limit=2), lambda progress: None)
    assert pack.read_bytes() == whole
    pack.unlink()
    run(packed, RunOptions(out, limit=2), lambda progress: None)
    assert pack.read_bytes() == whole


@pytest.mark.parametrize("place", [0.5, 0.0])
def test_a_damaged_pack_is_not_repacked_with_a_new_hash(place: float, twelve_people: Path, tmp_path: Path) -> None:
    import shutil

    photos, out = tmp_path / "photos", tmp_path / "out"
    for number in (0, 1):
        shutil.copytree(twelve_people / f"person_{number:02d}", photos / f"person_{number:02d}")
    packed = recipe_for(photos, *QUICK_RECIPE, "output.layout=packed")
    run_into(out, packed)
    pack = out / "shards" / "pack-000000.tar"
    content = bytearray(pack.read_bytes())
    content[int(place * len(content)) : int(place * len(content)) + 200] = b"x" * 200
    pack.write_bytes(content)
    shutil.copytree(twelve_people / "person_02", photos / "person_02")
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"the packs are damaged for \d+ identities; delete .*pack-\*\.tar"):
            run_into(out, packed)
    pack.unlink()
    run_into(out, packed)
    run_into(tmp_path / "fresh", packed)
    assert digest(out) == digest(tmp_path / "fresh")


def test_deleted_manifests_and_report_are_written_again(twelve_people: Path, tmp_path: Path) -> None:
    import shutil

    out, recipe = tmp_path / "out", recipe_for(twelve_people, *QUICK_RECIPE)
    run(recipe, RunOptions(out, limit=2), lambda progress: None)
    before = digest(out)
    shutil.rmtree(out / "manifests")
    shutil.rmtree(out / "report")
    result = run(recipe, RunOptions(out, limit=2), lambda progress: None)
    assert digest(out) == before
    assert result.report.exists()


def test_an_accepted_recipe_with_a_limit_leaves_no_rows_of_the_old_recipe(twelve_people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(recipe_for(twelve_people, *QUICK_RECIPE), RunOptions(out, limit=3), lambda progress: None)
    other = recipe_for(twelve_people, *QUICK_RECIPE, "crop.output_px=320")
    result = run(other, RunOptions(out, limit=1, accept_recipe_change=True), lambda progress: None)
    assert result.dataset["counts"]["identities"] == 1
    assert result.dataset["is_limited"]


def test_shards_of_hifidata_can_be_a_source(twelve_people: Path, tmp_path: Path) -> None:
    run_into(tmp_path / "first", recipe_for(twelve_people, *QUICK_RECIPE))
    again = load_recipe(
        PROJECT_ROOT / "pipelines" / "folder.yaml",
        [f"source={{kind: shards, path: {tmp_path / 'first' / 'shards'}}}", *QUICK_RECIPE],
    )
    run_into(tmp_path / "second", again)
    n_kept = sum(row["status"] == "kept" for row in rows_of(tmp_path / "first"))
    assert len(rows_of(tmp_path / "second")) == n_kept > 12


def test_replay_without_changes_repeats_every_verdict(demo: Path) -> None:
    result = replay(demo, [])
    assert (result.newly_kept, result.newly_dropped, result.unknown) == ([], {}, {})
    assert result.kept_before == result.kept_after > 0
    assert result.reasons_before == result.reasons_after


def test_replay_agrees_with_a_real_run_at_the_stricter_threshold(demo: Path, demo_photos: Path, tmp_path: Path) -> None:
    scores = sorted(float(str(row["quality_score"])) for row in rows_of(demo) if row["status"] == "kept")
    stricter = f"quality.min_score={scores[len(scores) // 3] + 1e-4:.4f}"
    result = replay(demo, [stricter])
    assert result.newly_dropped
    run_into(tmp_path / "out", recipe_for(demo_photos, "executor.kind=local", stricter))
    kept = {row["image_id"] for row in rows_of(tmp_path / "out") if row["status"] == "kept"}
    before = {row["image_id"] for row in rows_of(demo) if row["status"] == "kept"}
    assert kept == (before - result.newly_dropped.keys()) | set(result.newly_kept)


def test_replay_reports_images_that_a_stage_never_measured(demo: Path) -> None:
    result = replay(demo, ["quality.min_score=0.0"])
    assert result.unknown_by_stage["watermark"] == result.reasons_before["low_quality"] > 0
    assert not result.newly_kept
    assert set(result.dependent.values()) == {"dedup"}  # their identities have images without measurements of dedup


def test_replay_refuses_settings_that_affect_a_measurement(demo: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"crop\.output_px affects measurements"):
        replay(demo, ["crop.output_px=512"])
    with pytest.raises(DatasetError, match="not a dataset folder"):
        replay(tmp_path, [])


def test_a_run_reports_an_exceeded_failure_budget(twelve_people: Path, tmp_path: Path) -> None:
    recipe = recipe_for(twelve_people, *QUICK_RECIPE, "failures.max_share=0.1")
    result = run(recipe, RunOptions(tmp_path / "out", limit=1), lambda progress: None)
    assert result.over_budget
    assert result.dataset["counts"]["failed"] == 1


def test_each_image_is_decoded_once_and_the_pixels_in_memory_are_bounded(
    twelve_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hifidata.image.decode import Limits, Picture, decode
    from hifidata.run import worker
    from hifidata.stages import base

    decoded: Counter[bytes] = Counter()
    held = most_held = 0

    def counting(data: bytes, limits: Limits) -> Picture:
        nonlocal held, most_held
        decoded[data] += 1
        held += 1
        most_held = max(most_held, held)
        return decode(data, limits)

    def releasing(sample: base.Sample, keep_encoded: bool) -> None:
        nonlocal held
        held -= sample.has_pixels
        release(sample, keep_encoded)

    release = base.Sample.release
    monkeypatch.setattr(base, "decode", counting)
    monkeypatch.setattr(base.Sample, "release", releasing)
    monkeypatch.setattr(worker, "CHUNK_PIXELS", 1)  # every image fills a chunk
    run(recipe_for(twelve_people, *QUICK_RECIPE), RunOptions(tmp_path / "out", limit=2), lambda progress: None)
    assert decoded
    assert sum(decoded.values()) == 8
    assert most_held <= 3  # the image of the chunk, and the broken files, which have no pixels
