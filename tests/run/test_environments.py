"""The environments of groups with their own packages are checked before Ray starts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hifidata.config.recipe import Recipe, resolve
from hifidata.config.sections import STAGE_NAMES
from hifidata.core.errors import UsageError
from hifidata.run.run import RunOptions, run


def recipe_with(runtime_env: dict[str, Any], tmp_path: Path) -> Recipe:
    photo = tmp_path / "photos" / "ann" / "1.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"not an image")
    group = {"name": "own", "stages": STAGE_NAMES, "runtime_env": runtime_env}
    source = {"kind": "folder", "path": str(tmp_path / "photos")}
    return resolve({"name": "t", "source": source, "groups": [group]}, "test")


def test_a_missing_environment_is_reported_before_ray_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests of this process may have started Ray
    recipe = recipe_with({"py_executable": "/nowhere/bin/python -s"}, tmp_path)
    with pytest.raises(UsageError, match=r"own: py_executable /nowhere/bin/python -s does not exist .*docs/paddle\.md"):
        run(recipe, RunOptions(tmp_path / "out"), lambda progress: None)


def test_a_group_with_its_own_packages_needs_virtualenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setitem(sys.modules, "virtualenv", None)
    recipe = recipe_with({"pip": ["paddleocr"]}, tmp_path)
    with pytest.raises(UsageError, match=r"own: Ray needs virtualenv.*`pip install virtualenv`, or set py_executable"):
        run(recipe, RunOptions(tmp_path / "out"), lambda progress: None)
