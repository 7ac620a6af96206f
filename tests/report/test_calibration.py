"""The similarity threshold that a dataset supports, on embeddings made by code."""

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


def test_what_to_do_about_too_few_people_is_only_what_is_lacking(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"at least 5; add people$"):
        calibrate(write_embeddings(tmp_path / "few", 4, 100), 0.5, None)
    write_dataset(tmp_path / "unverified")
    with pytest.raises(DatasetError, match=r"0 people .*at least 5; set verify\.model and run again$"):
        calibrate(tmp_path / "unverified", 0.5, None)
    write_dataset(tmp_path / "both", people=2)
    with pytest.raises(DatasetError, match=r"at least 5; add people, set verify\.model and run again$"):
        calibrate(tmp_path / "both", 0.5, None)


def write_copies(folder: Path) -> Path:
    """Six people who all have the very same ten pictures: all comparisons of a picture tie."""
    folder = write_embeddings(folder, 6, 10)
    for name, column, n in (("images", "embedding", 10), ("identities", "target_embedding", 1)):
        path = folder / "manifests" / f"{name}.parquet"
        replace_column(path, column, 6 * pq.read_table(path)[column].to_pylist()[:n])
    return folder


def test_the_rate_that_is_reached_is_said_where_comparisons_tie(
    finished: Callable[[Path], Path], tmp_path: Path
) -> None:
    copies = write_copies(tmp_path / "copies")
    found = calibrate(copies, 0.05, None)
    assert (found.reached, found.next_rate) == (0.0, pytest.approx(0.1))
    folder = finished(copies)
    choose(folder, 0.05)
    assert hifidata("report", folder).exit_code == 0
    assert "comparisons of 6 people. 0 % of them lie above <b>" in page_of(folder)
    tie = "comparisons tie at this threshold, so that 0 % is reached, and just below it 10 % would pass"
    assert f"Why 5 %: it was chosen for this dataset; {tie}." in page_of(folder)
    assert tie in hifidata("calibrate", folder).stdout


def test_nothing_is_said_of_ties_where_there_are_none(found: Calibration) -> None:
    assert found.far >= found.reached > 0.9 * found.far
    assert "tie" not in found.why


@pytest.mark.parametrize(("own_lost", "is_much"), [(0.33, False), (0.34, True)])
def test_a_threshold_that_costs_people_their_own_pictures_is_warned_of(
    own_lost: float, is_much: bool, found: Calibration
) -> None:
    rows = tuple(replace(row, own_lost=lost) for row, lost in zip(found.thresholds, (own_lost, 0.0, 0.0), strict=True))
    warnings = replace(found, thresholds=rows).warnings
    assert bool(warnings) is is_much
    assert all("34.0% with the threshold of this dataset." in warning for warning in warnings)


def test_the_report_shows_the_warning(finished: Callable[[Path], Path], forty: Path) -> None:
    folder = finished(forty)
    assert hifidata("report", folder).exit_code == 0
    warnings = calibrate(forty, None, 0.93).warnings
    shown = [html.unescape(text) for text in re.findall('<p class="banner">(Much of .*?)</p>', page_of(folder))]
    assert warnings
    assert tuple(shown) == warnings


def test_many_pictures_of_one_person_weigh_no_more_than_twenty(tmp_path: Path) -> None:
    assert calibrate(write_embeddings(tmp_path / "out", 6, 50), 0.05, None).n_pictures == 6 * 20


def test_the_command_prints_a_table_or_json_and_refuses_in_one_line(forty: Path) -> None:
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
    """Makes a dataset folder with the embeddings of another: manifests, dataset.json and nothing else."""

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


def test_the_report_shows_the_threshold_beside_the_recipes_and_the_papers(
    finished: Callable[[Path], Path], forty: Path
) -> None:
    folder = finished(forty)
    assert hifidata("report", folder).exit_code == 0
    page = page_of(folder)
    assert f"<b>{calibrate(forty, 0.001, 0.93).threshold:.3f}</b>" in page
    assert "Why 0.1 %: nobody chose a rate, and this is the usual one." in page
    assert 'the paper, for InsightFace</td><td class="number">0.700' in page
    assert 'the recipe</td><td class="number">0.930' in page


def test_a_chosen_rate_stays_with_the_dataset_and_every_later_report_shows_its_threshold(
    finished: Callable[[Path], Path], forty: Path
) -> None:
    folder = finished(forty)
    mark = (folder / "dataset.json").read_bytes()
    done = hifidata("calibrate", folder, "--far", "0.02")
    assert (done.exit_code, str(folder / "report" / "index.html") in done.stderr) == (0, True)
    for again in ((), ("report", folder), ("calibrate", folder)):
        assert not again or hifidata(*again).exit_code == 0
        assert f"<b>{calibrate(forty, 0.02, None).threshold:.3f}</b>" in page_of(folder)
        assert "Why 2 %: it was chosen for this dataset." in page_of(folder)
    assert (folder / "dataset.json").read_bytes() == mark
    assert json.loads((folder / "manifests" / "calibration.json").read_text()) == {"far": 0.02}
    assert json.loads(hifidata("calibrate", folder, "--json").stdout)["far"] == 0.02


def test_without_a_choice_the_smallest_usual_rate_that_the_comparisons_support_is_shown_and_why(
    finished: Callable[[Path], Path], tmp_path: Path
) -> None:
    six = write_embeddings(tmp_path / "six", 6, 10)
    folder = finished(six)
    assert hifidata("report", folder).exit_code == 0
    assert f"<b>{calibrate(six, 0.05, None).threshold:.3f}</b>" in page_of(folder)
    why = "nobody chose a rate, and this is the smallest usual one that makes up 10 of them or more"
    assert "300 comparisons of 6 people. 5 % of them lie above" in page_of(folder)
    assert f"Why 5 %: {why}." in page_of(folder)
    assert f"({why})" in hifidata("calibrate", folder).stdout
    assert not (folder / "manifests" / "calibration.json").exists()


def test_a_choice_that_shrunken_data_no_longer_supports_is_named_and_kept(
    finished: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = finished(write_embeddings(tmp_path / "six", 6, 10))
    choose(folder, 0.001)
    assert hifidata("report", folder).exit_code == 0
    assert "Why 5 %: the chosen 0.1 % would rest on fewer than 10 of them, and this is the smallest" in page_of(folder)
    assert chosen_rate(folder) == 0.001


def test_a_rate_that_the_data_do_not_support_is_refused_and_not_kept(
    finished: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = finished(write_embeddings(tmp_path / "six", 6, 10))
    for far in ("0.001", "0", "2"):
        assert isinstance(hifidata("calibrate", folder, "--far", far).exception, UsageError)
    assert not (folder / "manifests" / "calibration.json").exists()
    assert not (folder / "report").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"far": 7}', '{"far": null}'])
def test_a_damaged_choice_is_one_line_with_the_remedy(
    content: str, finished: Callable[[Path], Path], forty: Path
) -> None:
    folder = finished(forty)
    (folder / "manifests" / "calibration.json").write_text(content)
    refused = hifidata("report", folder).exception
    assert isinstance(refused, DatasetError)
    assert re.fullmatch(r".*/calibration\.json: holds no rate \(.+\); .*delete it, or choose again.*", str(refused))
    assert hifidata("calibrate", folder, "--far", "0.01").exit_code == 0
    assert chosen_rate(folder) == 0.01


def test_a_report_without_embeddings_says_so(tmp_path: Path) -> None:
    run = write_dataset(tmp_path / "dataset")
    assert "too few people, or no embeddings" in render_report(tmp_path / "dataset", run)
