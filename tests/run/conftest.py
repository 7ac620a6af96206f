"""Fixtures of the tests of runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hifidata.config.recipe import Recipe, load_recipe
from hifidata.run.run import RunOptions, run
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE
from tests.servers.hostile import HostileServer


@pytest.fixture
def server(twelve_people: Path) -> Iterator[HostileServer]:
    with HostileServer(files=twelve_people) as server:
        yield server


@pytest.fixture(scope="session")
def recipe(twelve_people: Path) -> Recipe:
    return load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [f"source.path={twelve_people}", *QUICK_RECIPE])


@pytest.fixture(scope="session")
def made(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished dataset of three identities, which the tests copy."""
    out = tmp_path_factory.mktemp("made") / "out"
    run(recipe, RunOptions(out, limit=3), lambda progress: None)
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))
