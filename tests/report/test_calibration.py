"""The similarity threshold that a dataset supports, on embeddings made by code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from hifidata.cli import app
from hifidata.errors import DatasetError, UsageError
from hifidata.report.calibration import Calibration, calibrate
from hifidata.report.html import render_report
from tests.report.synthetic_dataset import write_dataset

D = 32


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def write_embeddings(folder: Path, n_people: int, per_person: int, twin: bool = False, seed: int = 0) -> Path:
    """People with random centres and pictures scattered around them; ``twin``: the last is the first once more."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(n_people, D)))
    if twin:
        centres[-1] = centres[0]
    pictures = unit(centres[:, None] + rng.normal(scale=0.1, size=(n_people, per_person, D)))
    targets = unit(pictures.mean(axis=1))
    ids = [f"{i:016x}" for i in range(n_people)]
    owner = np.repeat(np.arange(n_people), per_person)
    manifests = folder / "manifests"
    manifests.mkdir(parents=True)
    people: dict[str, Any] = {
        "identity_id": ids, "identity_name": [f"Person {i}" for i in range(n_people)],
        "n_kept": pa.array([per_person] * n_people, pa.int32()), "target_embedding": as_lists(targets),
    }  # fmt: skip
    images: dict[str, Any] = {
        "identity_id": [ids[i] for i in owner], "image_id": [f"{i:020x}" for i in range(len(owner))],
        "status": ["kept"] * len(owner), "embedding_model": ["made"] * len(owner),
        "embedding": as_lists(pictures.reshape(-1, D)), "cluster": pa.array([0] * len(owner), pa.int32()),
        "similarity": pa.array((pictures * targets[:, None]).sum(axis=-1).ravel(), pa.float32()),
    }  # fmt: skip
    pq.write_table(pa.table(people), manifests / "identities.parquet")
    pq.write_table(pa.table(images), manifests / "images.parquet")
    recipe = {"name": "made", "verify": {"min_similarity": 0.93}}
    (folder / "dataset.json").write_text(json.dumps({"recipe": recipe}))
    return folder


def as_lists(vectors: np.ndarray) -> pa.Array:
    return pa.array(vectors.tolist(), pa.list_(pa.float32()))


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_embeddings(tmp_path_factory.mktemp("forty") / "out", 40, 10)


@pytest.fixture(scope="module")
def found(forty: Path) -> Calibration:
    return calibrate(forty, 0.01, 0.93)


def test_at_most_the_chosen_share_of_strangers_passes_and_a_lower_threshold_lets_more_through(
    found: Calibration, forty: Path
) -> None:
    assert found.n_comparisons == 40 * 10 * 39
    ours = found.thresholds[0]
    assert 0.009 < ours.strangers_accepted <= 0.01
    assert calibrate(forty, 0.02, None).threshold < ours.value < calibrate(forty, 0.005, None).threshold


def test_recipe_and_paper_stand_beside_it_with_what_they_would_do(found: Calibration) -> None:
    assert [row.value for row in found.thresholds] == [found.threshold, 0.93, 0.7]
    recipe = found.thresholds[1]
    assert recipe.strangers_accepted == 0
    assert recipe.own_lost > found.thresholds[2].own_lost


def test_the_interval_holds_the_threshold_of_most_other_draws_of_people(found: Calibration, tmp_path: Path) -> None:
    """95 % is promised for draws of the same people; over 20 fresh ones at least 15 lie inside."""
    others = [
        calibrate(write_embeddings(tmp_path / str(seed), 40, 10, seed=seed), 0.01, None).threshold
        for seed in range(1, 21)
    ]
    assert found.low < found.threshold < found.high
    assert sum(found.low <= other <= found.high for other in others) >= 15


def test_one_person_under_two_names_is_pointed_out(tmp_path: Path) -> None:
    twins = calibrate(write_embeddings(tmp_path / "out", 40, 10, twin=True), 0.01, None)
    assert set(twins.closest) == {"Person 0", "Person 39"}
    assert twins.closest_similarity > 0.9


def test_too_few_comparisons_are_refused_with_the_rate_they_support(tmp_path: Path) -> None:
    folder = write_embeddings(tmp_path / "out", 6, 10)
    with pytest.raises(DatasetError, match=r"300 comparisons between 6 people are too few.*0\.001.*--far 0\.0334"):
        calibrate(folder, 0.001, None)
    assert calibrate(folder, 0.0334, None).n_people == 6


def test_too_few_people_and_impossible_rates_are_refused(tmp_path: Path, forty: Path) -> None:
    with pytest.raises(DatasetError, match="4 people with verified pictures"):
        calibrate(write_embeddings(tmp_path / "out", 4, 100), 0.5, None)
    for far in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="expected a rate between 0 and 1"):
            calibrate(forty, far, None)


def test_many_pictures_of_one_person_weigh_no_more_than_twenty(tmp_path: Path) -> None:
    assert calibrate(write_embeddings(tmp_path / "out", 6, 50), 0.05, None).n_pictures == 6 * 20


def test_the_command_prints_a_table_or_json_and_refuses_in_one_line(forty: Path) -> None:
    done = CliRunner().invoke(app, ["calibrate", str(forty), "--far", "0.01"])
    assert done.exit_code == 0
    assert "the paper, for InsightFace" in done.output
    fitted = json.loads(CliRunner().invoke(app, ["calibrate", str(forty), "--far", "0.01", "--json"]).output)
    assert fitted["far"] == 0.01
    assert fitted["low"] <= fitted["threshold"] <= fitted["high"]
    refused = CliRunner().invoke(app, ["calibrate", str(forty), "--far", "1e-6"])
    assert isinstance(refused.exception, DatasetError)
    assert "\n" not in str(refused.exception)


def test_the_report_shows_the_threshold_beside_the_recipes_and_the_papers(tmp_path: Path, forty: Path) -> None:
    run = write_dataset(tmp_path / "dataset")
    for name in ("images", "identities"):
        (tmp_path / "dataset" / "manifests" / f"{name}.parquet").unlink()
        made = forty / "manifests" / f"{name}.parquet"
        (tmp_path / "dataset" / "manifests" / f"{name}.parquet").write_bytes(made.read_bytes())
    run["recipe"]["verify"] = run["recipe"]["verify"] | {"min_similarity": 0.93}
    page = render_report(tmp_path / "dataset", run)
    expected = calibrate(forty, 0.001, 0.93)
    assert f"<b>{expected.threshold:.3f}</b>" in page
    assert 'the paper, for InsightFace</td><td class="number">0.700' in page
    assert 'the recipe</td><td class="number">0.930' in page


def test_a_report_without_embeddings_says_so(tmp_path: Path) -> None:
    run = write_dataset(tmp_path / "dataset")
    assert "too few people, or no embeddings" in render_report(tmp_path / "dataset", run)
