"""Groups with packages of their own are looked at before Ray is asked for what it cannot make."""

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
    photo.write_bytes(b"no picture")
    group = {"name": "own", "stages": STAGE_NAMES, "runtime_env": runtime_env}
    source = {"kind": "folder", "path": str(tmp_path / "photos")}
    return resolve({"name": "t", "source": source, "groups": [group]}, "test")


def test_an_environment_that_is_not_there_is_named_before_ray_starts(tmp_path: Path) -> None:
    recipe = recipe_with({"py_executable": "/nowhere/bin/python -s"}, tmp_path)
    with pytest.raises(UsageError, match=r"own's py_executable /nowhere/bin/python -s cannot be run.*docs/paddle\.md"):
        run(recipe, RunOptions(tmp_path / "out"), lambda progress: None)


def test_packages_for_a_group_need_virtualenv_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "virtualenv", None)
    recipe = recipe_with({"pip": ["paddleocr"]}, tmp_path)
    with pytest.raises(
        UsageError, match=r"own has packages of its own.*`pip install virtualenv`, or name an environment"
    ):
        run(recipe, RunOptions(tmp_path / "out"), lambda progress: None)
