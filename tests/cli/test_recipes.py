"""The bundled recipes, and the common options of ``run`` and ``submit``."""

from __future__ import annotations

import dataclasses
import inspect
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hifidata.cli.main import app, run
from hifidata.cli.options import RunFlags
from hifidata.cli.submit import submit
from hifidata.config.bundled import bundled_recipes, recipe_path
from hifidata.config.recipe import load_recipe
from hifidata.core.errors import RecipeError
from tests.conftest import PROJECT_ROOT


def test_every_bundled_recipe_is_listed_and_loads() -> None:
    listed = CliRunner().invoke(app, ["recipes", "list"]).stdout
    assert set(bundled_recipes()) == {path.stem for path in (PROJECT_ROOT / "pipelines").glob("*.yaml")}
    for name, path in bundled_recipes().items():
        assert f"\n{name} " in listed
        assert load_recipe(path).name == name


def test_a_recipe_is_a_file_or_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    assert recipe_path("folder") == PROJECT_ROOT / "pipelines" / "folder.yaml"
    Path("web").write_text("name: mine\n")
    assert recipe_path("web") == Path("web")
    with pytest.raises(RecipeError, match=r"recipe foldr: no such file; did you mean the recipe folder\?"):
        recipe_path("foldr")


def test_a_copied_recipe_is_the_same_and_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["recipes", "copy", "folder"]).stdout.strip() == "folder.yaml"
    original = (PROJECT_ROOT / "pipelines" / "folder.yaml").read_text(encoding="utf-8")
    assert Path("folder.yaml").read_text(encoding="utf-8") == original
    assert CliRunner().invoke(app, ["recipes", "show", "folder.yaml"]).stdout.strip() == original.strip()
    assert "exists already" in str(CliRunner().invoke(app, ["recipes", "copy", "folder"]).exception)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, PROJECT_ROOT], check=True)
    return next(folder.glob("*.whl"))


def test_an_installed_wheel_runs_recipes_from_any_directory(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    assert (tmp_path / "site" / "hifidata" / "report" / "templates" / "report.html.j2").is_file()
    (tmp_path / "photos" / "Person_1").mkdir(parents=True)
    (tmp_path / "photos" / "Person_1" / "a.jpg").write_bytes(b"not an image")

    def hifidata(*arguments: str) -> str:
        command = [sys.executable, "-m", "hifidata", *arguments]
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment).stdout

    assert "\nfolder " in hifidata("recipes", "list")
    assert str(tmp_path / "site") in hifidata("recipes", "list", "--json")
    assert "1 identities, 1 candidates" in hifidata("plan", "folder", "--set", "source.path=photos")


@pytest.mark.parametrize("command", [run, submit])
def test_shared_options_are_those_of_run_flags(command: object) -> None:
    names = {field.name for field in dataclasses.fields(RunFlags)}
    assert names <= set(inspect.signature(command).parameters)  # type: ignore[arg-type]


def test_submit_passes_the_arguments_of_run() -> None:
    flags = RunFlags(Path("/out"), ["a.b=1"], limit=3, accept_recipe_change=True, retry="failed", json_out=True)
    assert flags.arguments == ["--out=/out", "--limit=3", "--accept-recipe-change", "--retry=failed"]
    assert RunFlags(Path("/out"), []).arguments == ["--out=/out"]
