"""Calibration of the similarity threshold on generated embeddings."""

from __future__ import annotations

import copy
import html
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from hifidata.cli.main import app
from hifidata.core.errors import DatasetError, UsageError
from hifidata.report.calibration import Calibration, calibrate, choose, chosen_rate
from hifidata.report.html import render_report
from tests.report.synthetic_dataset import replace_column, write_dataset

D = 32
LOWEST = "the lowest preset rate that this dataset supports (at least 10 expected false accepts)."


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def write_embeddings(
    folder: Path, n_identities: int, per_identity: int, duplicate: bool = False, seed: int = 0
) -> Path:
    """Write identities with random centres and images near them; ``duplicate``: the last centre equals the first."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(n_identities, D)))
    if duplicate:
        centres[-1] = centres[0]
    embeddings = unit(centres[:, None] + rng.normal(scale=0.1, size=(n_identities, per_identity, D)))
    targets = unit(embeddings.mean(axis=1))
    ids = [f"{i:016x}" for i in range(n_identities)]
    owner = np.repeat(np.arange(n_identities), per_identity)
    manifests = folder / "manifests"
    manifests.mkdir(parents=True)
    identities: dict[str, Any] = {
        "identity_id": ids, "identity_name": [f"Person {i}" for i in range(n_identities)],
        "n_kept": pa.array([per_identity] * n_identities, pa.int32()), "target_embedding": as_lists(targets),
    }  # fmt: skip
    images: dict[str, Any] = {
        "identity_id": [ids[i] for i in owner], "image_id": [f"{i:020x}" for i in range(len(owner))],
        "status": ["kept"] * len(owner), "embedding_model": ["made"] * len(owner),
        "embedding": as_lists(embeddings.reshape(-1, D)), "cluster": pa.array([0] * len(owner), pa.int32()),
        "similarity": pa.array((embeddings * targets[:, None]).sum(axis=-1).ravel(), pa.float32()),
    }  # fmt: skip
    pq.write_table(pa.table(identities), manifests / "identities.parquet")
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


def test_the_threshold_keeps_the_false_accept_rate_and_falls_with_a_higher_rate(
    found: Calibration, forty: Path
) -> None:
    assert found.n_comparisons == 40 * 10 * 39
    ours = found.thresholds[0]
    assert 0.009 < ours.strangers_accepted <= 0.01
    assert calibrate(forty, 0.02, None).threshold < ours.value < calibrate(forty, 0.005, None).threshold


def test_the_thresholds_of_recipe_and_paper_are_listed_with_their_error_rates(found: Calibration) -> None:
    assert [row.value for row in found.thresholds] == [found.threshold, 0.93, 0.7]
    recipe = found.thresholds[1]
    assert recipe.strangers_accepted == 0
    assert recipe.own_lost > found.thresholds[2].own_lost


def test_the_interval_contains_the_threshold_of_most_other_samples(found: Calibration, tmp_path: Path) -> None:
    """The 95 % hold for resampled identities; at least 15 thresholds of 20 new samples are inside."""
    others = [
        calibrate(write_embeddings(tmp_path / str(seed), 40, 10, seed=seed), 0.01, None).threshold
        for seed in range(1, 21)
    ]
    assert found.low < found.threshold < found.high
    assert sum(found.low <= other <= found.high for other in others) >= 15


def test_a_duplicate_identity_is_the_closest_pair(tmp_path: Path) -> None:
    found = calibrate(write_embeddings(tmp_path / "out", 40, 10, duplicate=True), 0.01, None)
    assert set(found.closest) == {"Person 0", "Person 39"}
    assert found.closest_similarity > 0.9


def test_too_few_comparisons_are_refused_with_the_rate_they_support(tmp_path: Path) -> None:
    folder = write_embeddings(tmp_path / "out", 6, 10)
    with pytest.raises(DatasetError, match=r"300 comparisons between 6 identities are too few.*0\.001.*--far 0\.0334"):
        calibrate(folder, 0.001, None)
    assert calibrate(folder, 0.0334, None).n_people == 6


def test_too_few_identities_and_impossible_rates_are_refused(tmp_path: Path, forty: Path) -> None:
    with pytest.raises(DatasetError, match="4 identities with verified images"):
        calibrate(write_embeddings(tmp_path / "out", 4, 100), 0.5, None)
    for far in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="expected a rate between 0 and 1"):
            calibrate(forty, far, None)


def test_the_remedy_for_too_few_identities_names_only_the_missing_parts(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"at least 5; add identities$"):
        calibrate(write_embeddings(tmp_path / "few", 4, 100), 0.5, None)
    write_dataset(tmp_path / "unverified")
    with pytest.raises(DatasetError, match=r"0 identities .*at least 5; set verify\.model and run again$"):
        calibrate(tmp_path / "unverified", 0.5, None)
    write_dataset(tmp_path / "both", n_identities=2)
    with pytest.raises(DatasetError, match=r"at least 5; add identities, set verify\.model and run again$"):
        calibrate(tmp_path / "both", 0.5, None)


def write_copies(folder: Path) -> Path:
    """Write six identities with the same ten images, so that all comparisons of an image tie."""
    folder = write_embeddings(folder, 6, 10)
    for name, column, n in (("images", "embedding", 10), ("identities", "target_embedding", 1)):
        path = folder / "manifests" / f"{name}.parquet"
        replace_column(path, column, 6 * pq.read_table(path)[column].to_pylist()[:n])
    return folder


def test_tied_comparisons_are_reported_with_the_reached_rate(finished: Callable[[Path], Path], tmp_path: Path) -> None:
    copies = write_copies(tmp_path / "copies")
    found = calibrate(copies, 0.05, None)
    assert (found.reached, found.next_rate) == (0.0, pytest.approx(0.1))
    folder = finished(copies)
    choose(folder, 0.05)
    assert hifidata("report", folder).exit_code == 0
    assert "comparisons of 6 identities. " in page_of(folder)
    assert "0 % of the comparisons are above <b>" in page_of(folder)
    tie = "Many comparisons have the same similarity: the FAR is 0 % at this threshold and 10 % just below it."
    assert f"FAR 5 %: the rate chosen for this dataset. {tie}" in page_of(folder)
    assert tie in " ".join(hifidata("calibrate", folder).stdout.split())


def test_without_ties_no_tie_is_reported(found: Calibration) -> None:
    assert found.far >= found.reached > 0.9 * found.far
    assert "same similarity" not in found.why


@pytest.mark.parametrize(("own_lost", "is_high"), [(0.33, False), (0.34, True)])
def test_a_high_false_reject_rate_gives_a_warning(own_lost: float, is_high: bool, found: Calibration) -> None:
    rows = tuple(replace(row, own_lost=lost) for row, lost in zip(found.thresholds, (own_lost, 0.0, 0.0), strict=True))
    warnings = replace(found, thresholds=rows).warnings
    assert bool(warnings) is is_high
    assert all("34.0% with the threshold of this dataset." in warning for warning in warnings)


def test_the_report_shows_the_warning(finished: Callable[[Path], Path], forty: Path) -> None:
    folder = finished(forty)
    assert hifidata("report", folder).exit_code == 0
    warnings = calibrate(forty, None, 0.93).warnings
    shown = [
        html.unescape(text) for text in re.findall('<p class="banner">(High false reject rate.*?)</p>', page_of(folder))
    ]
    assert warnings
    assert tuple(shown) == warnings


def test_at_most_twenty_images_of_an_identity_are_used(tmp_path: Path) -> None:
    assert calibrate(write_embeddings(tmp_path / "out", 6, 50), 0.05, None).n_pictures == 6 * 20


def test_the_command_prints_a_table_or_json_and_one_line_errors(forty: Path) -> None:
    done = CliRunner().invoke(app, ["calibrate", str(forty)])
    assert done.exit_code == 0
    assert "the paper, for InsightFace" in done.output
    fitted = json.loads(CliRunner().invoke(app, ["calibrate", str(forty), "--json"]).output)
    assert (fitted["far"], fitted["chosen"]) == (0.001, None)
    assert fitted["low"] <= fitted["threshold"] <= fitted["high"]
    refused = CliRunner().invoke(app, ["calibrate", str(forty), "--far", "1e-6"])
    assert isinstance(refused.exception, DatasetError)
    assert "\n" not in str(refused.exception)


@pytest.fixture
def finished(drawn_once: tuple[Path, dict[str, Any]], tmp_path: Path) -> Callable[[Path], Path]:
    """Return a function that makes a dataset folder with the manifests of another and a dataset.json."""

    def make(embeddings: Path) -> Path:
        run = copy.deepcopy(drawn_once[1])
        run["recipe"]["verify"] |= {"min_similarity": 0.93}
        folder = Path(shutil.copytree(embeddings, tmp_path / "dataset"))
        (folder / "dataset.json").write_text(json.dumps(run))
        return folder

    return make


def hifidata(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def page_of(folder: Path) -> str:
    return " ".join((folder / "report" / "index.html").read_text().split())


def test_the_report_shows_the_thresholds_of_dataset_recipe_and_paper(
    finished: Callable[[Path], Path], forty: Path
) -> None:
    folder = finished(forty)
    assert hifidata("report", folder).exit_code == 0
    page = page_of(folder)
    assert f"<b>{calibrate(forty, 0.001, 0.93).threshold:.3f}</b>" in page
    assert f"FAR 0.1 %: {LOWEST}" in page
    assert 'the paper, for InsightFace</td><td class="number">0.700' in page
    assert 'the recipe</td><td class="number">0.930' in page


def test_a_chosen_rate_is_stored_and_used_by_later_reports(finished: Callable[[Path], Path], forty: Path) -> None:
    folder = finished(forty)
    before = (folder / "dataset.json").read_bytes()
    done = hifidata("calibrate", folder, "--far", "0.02")
    assert (done.exit_code, str(folder / "report" / "index.html") in done.stderr) == (0, True)
    for again in ((), ("report", folder), ("calibrate", folder)):
        assert not again or hifidata(*again).exit_code == 0
        assert f"<b>{calibrate(forty, 0.02, None).threshold:.3f}</b>" in page_of(folder)
        assert "FAR 2 %: the rate chosen for this dataset." in page_of(folder)
    assert (folder / "dataset.json").read_bytes() == before
    assert json.loads((folder / "manifests" / "calibration.json").read_text()) == {"far": 0.02}
    assert json.loads(hifidata("calibrate", folder, "--json").stdout)["far"] == 0.02


def test_without_a_chosen_rate_the_lowest_supported_preset_rate_is_used(
    finished: Callable[[Path], Path], tmp_path: Path
) -> None:
    six = write_embeddings(tmp_path / "six", 6, 10)
    folder = finished(six)
    assert hifidata("report", folder).exit_code == 0
    assert f"<b>{calibrate(six, 0.05, None).threshold:.3f}</b>" in page_of(folder)
    assert "300 comparisons of 6 identities. " in page_of(folder)
    assert "5 % of the comparisons are above" in page_of(folder)
    assert f"FAR 5 %: {LOWEST}" in page_of(folder)
    assert f"FAR 5 %: {LOWEST}" in " ".join(hifidata("calibrate", folder).stdout.split())
    assert not (folder / "manifests" / "calibration.json").exists()


def test_a_chosen_rate_that_the_dataset_no_longer_supports_is_named_and_kept(
    finished: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = finished(write_embeddings(tmp_path / "six", 6, 10))
    choose(folder, 0.001)
    assert hifidata("report", folder).exit_code == 0
    assert f"FAR 5 %: {LOWEST} The dataset is too small for the chosen rate of 0.1 %." in page_of(folder)
    assert chosen_rate(folder) == 0.001


def test_an_unsupported_rate_is_refused_and_not_stored(finished: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = finished(write_embeddings(tmp_path / "six", 6, 10))
    for far in ("0.001", "0", "2"):
        assert isinstance(hifidata("calibrate", folder, "--far", far).exception, UsageError)
    assert not (folder / "manifests" / "calibration.json").exists()
    assert not (folder / "report").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"far": 7}', '{"far": null}'])
def test_a_damaged_rate_file_gives_one_line_with_the_remedy(
    content: str, finished: Callable[[Path], Path], forty: Path
) -> None:
    folder = finished(forty)
    (folder / "manifests" / "calibration.json").write_text(content)
    refused = hifidata("report", folder).exception
    assert isinstance(refused, DatasetError)
    assert re.fullmatch(
        r".*/calibration\.json: not a false accept rate \(.+\); .*delete the file, or choose a rate.*", str(refused)
    )
    assert hifidata("calibrate", folder, "--far", "0.01").exit_code == 0
    assert chosen_rate(folder) == 0.01


def test_a_report_without_embeddings_says_so(tmp_path: Path) -> None:
    run = write_dataset(tmp_path / "dataset")
    assert "too few identities, or no embeddings" in render_report(tmp_path / "dataset", run)
