"""Datasets and recipes of earlier versions are neither reprocessed nor refused without a reason.

Version 0.1.0 made ``fixtures/dataset_of_0_1_0.tar.xz`` from one image without a face. The fixture contains no image.
"""

from __future__ import annotations

import json
import os
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hifidata.config.recipe import REMOVED_KEYS, Recipe, load_recipe
from hifidata.core.errors import DatasetError, RecipeError
from hifidata.run.run import RunOptions, RunResult, run
from tests.conftest import PROJECT_ROOT

FIXTURES = PROJECT_ROOT / "tests" / "fixtures"
OPTIONS = ("source.path=photos", "output.thumbnail_px=0", "executor.kind=local", "verify.method=paper")
"""Version 0.1.0 verified by k-means."""


def write_image(path: Path) -> None:
    """Write the dataset's original: a BMP of one colour with a fixed mtime."""
    side, rgb = 64, (200, 150, 120)
    pixels = bytes(rgb[::-1]) * side * side
    head = struct.pack(
        "<2sIIIIiiHHIIIIII", b"BM", 54 + len(pixels), 0, 54, 40, side, side, 1, 24, 0, len(pixels), 0, 0, 0, 0
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + pixels)
    os.utime(path, ns=(10**18, 10**18))


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Extract a finished dataset of version 0.1.0 beside its photos."""
    monkeypatch.chdir(tmp_path)
    write_image(Path("photos", "Person_1", "a.bmp"))
    with tarfile.open(FIXTURES / "dataset_of_0_1_0.tar.xz") as tar:
        tar.extractall("out", filter="data")
    Path("out", "report").mkdir()
    Path("out", "report", "index.html").write_text("of version 0.1.0", encoding="utf-8")
    return Path("out")


def run_again(out: Path, *overrides: str, **options: Any) -> RunResult:
    recipe = load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [*OPTIONS, *overrides])
    return run(recipe, RunOptions(out, **options), lambda progress: None)


def test_a_finished_dataset_of_an_earlier_version_has_nothing_to_do(dataset: Path) -> None:
    before = json.loads((dataset / "dataset.json").read_bytes())
    assert load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", OPTIONS).hash != before["recipe_hash"]
    assert run_again(dataset).did_nothing
    assert run_again(dataset).did_nothing
    assert json.loads((dataset / "dataset.json").read_bytes()) == before


def test_new_identities_are_added_to_a_dataset_of_an_earlier_version(dataset: Path) -> None:
    fragment = next((dataset / "state" / "fragments").glob("*/*.parquet"))
    before = fragment.stat().st_mtime_ns
    write_image(Path("photos", "Person_2", "a.bmp"))
    result = run_again(dataset)
    assert result.dataset["counts"]["identities"] == 2
    assert fragment.stat().st_mtime_ns == before
    assert run_again(dataset).did_nothing


def test_a_changed_setting_with_an_effect_is_another_recipe(dataset: Path) -> None:
    with pytest.raises(DatasetError, match=r"another recipe \(quality\.min_score: 0\.6 -> 0\.7\)"):
        run_again(dataset, "quality.min_score=0.7")
    with pytest.raises(DatasetError, match=r"another recipe \(dedup\.enabled: True -> False"):
        run_again(dataset, "dedup.enabled=false")


def test_settings_of_a_disabled_stage_have_no_effect(dataset: Path) -> None:
    assert run_again(dataset, "occlusion.terms=[hat]", "occlusion.mode=ask").did_nothing


def test_a_grouped_recipe_of_an_earlier_version_loads() -> None:
    recipe = load_recipe(FIXTURES / "grouped_recipe_of_0_1_0.yaml")
    assert [group.name for group in recipe.worker_groups] == ["faces", "text", "rest"]
    assert [stage for group in recipe.worker_groups for stage in group.stages] == list(recipe.stage_names)


def test_a_new_disabled_stage_changes_neither_hash_nor_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fictitious stage between occlusion and dedup, disabled by default, as a later version may add one."""
    from hifidata.config import recipe as module
    from hifidata.config import sections

    recipe = load_recipe(FIXTURES / "grouped_recipe_of_0_1_0.yaml")

    class SunglassesConfig(sections.ModelStageConfig):
        model: str | None = None
        max_score: float = 0.5

    class LaterRecipe(Recipe):
        sunglasses: SunglassesConfig = SunglassesConfig()

    SunglassesConfig.model_rebuild(_types_namespace={"str": str, "float": float})
    LaterRecipe.model_rebuild(_types_namespace={"SunglassesConfig": SunglassesConfig})
    stages = dict(sections.STAGES)
    names = list(stages)
    names.insert(names.index("dedup"), "sunglasses")
    monkeypatch.setattr(module, "STAGES", {name: stages.get(name, "") for name in names})
    later = LaterRecipe.model_validate(recipe.model_dump())
    assert later.hash == recipe.hash
    assert "sunglasses" in later.worker_groups[2].stages


@pytest.mark.parametrize("key", REMOVED_KEYS)
def test_a_removed_key_is_refused_only_if_it_had_an_effect(key: str) -> None:
    path = PROJECT_ROOT / "pipelines" / "folder.yaml"
    load_recipe(path, [f"{key}={json.dumps(REMOVED_KEYS[key])}"])
    with pytest.raises(RecipeError, match=f"{key}: this key was removed .*; delete it"):
        load_recipe(path, [f"{key}=7"])
