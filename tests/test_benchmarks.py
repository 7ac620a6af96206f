"""The benchmarks' promises: sections by name, one line for what is missing, and no model left out of the bare calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.overhead import RECIPES, measure
from hifidata.recipe import load_recipe

ROOT = Path(__file__).resolve().parent.parent


def bench(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=variables, check=False)


def test_an_unknown_section_is_a_usage_error_that_names_those_there_are() -> None:
    refused = bench("papers")
    assert refused.returncode == 2
    assert "no section papers; there are pipeline, paper" in refused.stderr


def test_sections_that_lack_photos_or_shards_say_so_and_the_others_go_on(tmp_path: Path) -> None:
    done = bench("paper", "loader", "--shards", str(tmp_path), HIFI_ASSETS=str(tmp_path), COLUMNS="300")
    assert done.returncode == 0, done.stderr
    assert f"no photos at {tmp_path}/faces/sports-raw: set HIFI_ASSETS" in done.stdout
    assert f"{tmp_path}: no tar there" in done.stdout


def test_every_model_of_the_small_paper_recipe_is_among_its_bare_calls(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIFI_WEIGHTS", str(assets / "weights"))
    person = tmp_path / "photos" / "someone"
    person.mkdir(parents=True)
    for photo in sorted((assets / "faces" / "photomaker").glob("*/*"))[-2:]:
        (person / photo.name).write_bytes(photo.read_bytes())
    overrides = [f"source.path={person.parent}", "executor.kind=local", "verify.min_images=1"]
    overhead = measure(load_recipe(RECIPES / "paper-cpu-small.yaml", overrides))
    models = {"detect", "quality", "text", "occlusion", "embed", "face3d"}
    assert set(overhead.bare) == models | {"decode", "crop and encode"}
    assert all((times > 0).all() for times in overhead.bare.values())
    assert (overhead.executor > 0).all()
