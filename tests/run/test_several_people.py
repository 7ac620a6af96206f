"""A run on real photos: a folder of two people is refused, a folder of one person and a stranger is not."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hifidata.config.recipe import load_recipe
from hifidata.run.replay import replay
from hifidata.run.run import RunOptions, run
from tests.conftest import PROJECT_ROOT

FOLDERS = {"two_people": {"John_Simm": 6, "John_Salley": 6}, "one_person": {"John_Schneider": 7, "John_Savage": 2}}


@pytest.fixture(scope="module")
def dataset(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("several")
    for folder, people in FOLDERS.items():
        (root / "photos" / folder).mkdir(parents=True)
        for person, n in people.items():
            for photo in sorted((assets / "faces" / "dlib-johns" / person).iterdir())[:n]:
                shutil.copy(photo, root / "photos" / folder / f"{person}-{photo.name}")
    recipe = load_recipe(
        PROJECT_ROOT / "pipelines" / "folder.yaml",
        [f"source.path={root / 'photos'}", "detect.model=scrfd_2.5g", "verify.model=mobilefacenet", "crop.min_side_px=64",
         "crop.output_px=128", "quality.model=null", "watermark.model=null", "landmarks.model=null", "executor.kind=local",
         "detect.min_face_inside=0.5", "dedup.enabled=false", f"weights.folder={assets / 'weights'}"],
    )  # fmt: skip
    run(recipe, RunOptions(root / "out"), lambda progress: None)
    return root / "out"


def test_a_folder_of_two_people_is_refused_and_shown_with_both(dataset: Path) -> None:
    rows = pq.read_table(dataset / "manifests" / "images.parquet").to_pylist()
    two = [row for row in rows if row["identity_name"] == "two_people"]
    assert {row["reason"] for row in two} == {"several_people"}
    groups = [Path(row["source_uri"]).name.partition("-")[0] + str(row["cluster"]) for row in two]
    assert len(set(groups) - {"John_Simm-1", "John_Salley-1"}) == 2  # each group has the images of one person
    one = [row for row in rows if row["identity_name"] == "one_person"]
    results = {(Path(row["source_uri"]).name.partition("-")[0], row["reason"]) for row in one}
    assert results == {("John_Schneider", None), ("John_Savage", "other_person")}
    page = (dataset / "report" / "index.html").read_text(encoding="utf-8")
    section = page.partition('<section id="several-people">')[2].partition("</section>")[0]
    assert section.count("<figure") == 10
    assert section.count("data:image/jpeg") == 10
    assert "one_person" not in section


def test_a_replay_gives_the_verdicts_of_the_run_and_of_another_method(dataset: Path) -> None:
    same = replay(dataset, [])
    assert (same.newly_kept, same.newly_dropped, same.reasons_after) == ([], {}, same.reasons_before)
    lax = replay(dataset, ["verify.max_second_group=1.0", "verify.min_images=1"])
    assert Counter(lax.reasons_before)["several_people"] == 12
    paper = replay(dataset, ["verify.method=paper"])
    assert "several_people" not in paper.reasons_after
    assert {"verify.k: None -> 2", "verify.method: density -> paper"} <= set(paper.changes)
