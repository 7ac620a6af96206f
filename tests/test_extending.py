"""Parts 3 to 5 of docs/extending.md: each diff applies to a copy of this repository, touches few files, and works there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hifidata.config.bundled import bundled_recipes
from hifidata.config.recipe import load_recipe
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE

STAGE, MODEL, FLAG = re.findall(
    r"```diff\n(.*?)```", (PROJECT_ROOT / "docs" / "extending.md").read_text(encoding="utf-8"), re.DOTALL
)

START = """
import json, sys
from pathlib import Path
import pyarrow.parquet as pq
from typer.testing import CliRunner
from docs import reference
from hifidata.cli.main import app
from hifidata.config.bundled import bundled_recipes
from hifidata.config.recipe import load_recipe

reference.main()  # `make docs`
photos, work, *settings = sys.argv[1:]
sets = [f"--set={setting}" for setting in (f"source.path={photos}", *settings)]
hifidata = CliRunner().invoke
"""
END = """
Path(work, "answer.json").write_text(json.dumps(answer))
import pytest
sys.exit(pytest.main(["-n0", "-p", "no:cacheprovider", f"--basetemp={work}/tmp", *added_tests]))
"""


def tried(diff: str, work: Path, photos: Path, code: str) -> tuple[Path, list[str], Mapping[str, Any]]:
    """Apply a diff to a copy of this repository, generate the pages, run code there, and run the tests of the diff.

    One process does all of this, because importing the stages takes seconds.

    Args:
        diff: block of the page.
        work: folder for the copy, ``copy``.
        photos: ``photos`` of the code.
        code: sets ``answer``; see ``START``.

    Returns:
        The copy, the files that differ from this repository, and ``answer``.
    """
    copy = work / "copy"
    listed = _git(PROJECT_ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(lambda name: name and (PROJECT_ROOT / name).is_file(), listed):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT_ROOT / name, copy / name)
    _git(copy, "init", "--quiet")
    _git(copy, "add", "--all")
    _git(copy, "apply", "-", text=diff)
    added = _changed(copy, "ls-files", "--others", "--exclude-standard")
    tests = [name for name in added if name.startswith("tests/")]
    assert tests
    command = [sys.executable, "-c", f"{START}added_tests = {tests}\n{code}{END}", photos, work, *QUICK_RECIPE]
    environment = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    changed = [*added, *_changed(copy, "diff", "--name-only")]
    python = [name for name in changed if name.endswith(".py")]
    for check in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *check, "--no-cache", *python]
        found = subprocess.run(ruff, cwd=copy, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr
    return copy, changed, json.loads((work / "answer.json").read_bytes())


def _git(folder: Path, *arguments: str, text: str | None = None) -> str:
    if not shutil.which("git") or not (PROJECT_ROOT / ".git").exists():
        pytest.skip("git is not installed, or this folder is not a checkout")
    done = subprocess.run(["git", *arguments], cwd=folder, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}; correct the block of docs/extending.md"
    return done.stdout


def _changed(copy: Path, *arguments: str) -> list[str]:
    return _git(copy, *arguments).split()


def test_a_stage_touches_seven_files_drops_closed_eyes_and_changes_no_recipe_while_it_is_off(tmp_path: Path) -> None:
    pytest.importorskip("skimage.data")  # the diff's test needs its portrait
    (tmp_path / "photos" / "Person_1").mkdir(parents=True)
    (tmp_path / "photos" / "Person_1" / "a.jpg").write_bytes(b"no image")
    code = """
answer = {name: load_recipe(path).hash for name, path in bundled_recipes().items()}
answer["plan"] = hifidata(app, ["plan", "folder", *sets, "--set=eyes.model=eye_aspect_ratio", "--json"]).stdout
"""
    copy, changed, answer = tried(STAGE, tmp_path, tmp_path / "photos", code)
    assert len(changed) <= 7, changed
    assert {"docs/recipes.md", "manifests/README.md"} <= set(changed)
    page = (copy / "manifests" / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^\| `eye_openness` \| `float32` \| ratio \| eyes \|", page, re.MULTILINE)
    assert re.search(r"^\| `closed_eyes` \| eyes \| dropped \|.*`eye_openness` below `eyes.min_openness`", page, re.M)
    stages = [stage["stage"] for stage in json.loads(answer["plan"])["stages"]]
    at = stages.index("eyes")
    assert stages.index("occlusion") < at < stages.index("dedup")
    assert json.loads(answer["plan"])["stages"][at] == {
        "stage": "eyes", "runs": True, "model": "eye_aspect_ratio",
        "drops": ["openness of the eyes below 0.16 (eyes.min_openness)"],
    }  # fmt: skip
    assert {name: load_recipe(path).hash for name, path in bundled_recipes().items()} == {
        name: hash_ for name, hash_ in answer.items() if name != "plan"
    }


def test_a_model_touches_three_files_and_scores_real_photos(tmp_path: Path, twelve_people: Path) -> None:
    code = """
done = hifidata(app, ["run", "folder", *sets, "--set=quality.model=low_noise", "--limit=1", f"--out={work}/out"])
assert done.exit_code == 0, done.output
answer = pq.read_table(f"{work}/out/manifests/images.parquet", columns=["quality_model", "quality_score"]).to_pylist()
"""
    _, changed, answer = tried(MODEL, tmp_path, twelve_people, code)
    assert len(changed) <= 3, changed
    scored = [row for row in answer if row["quality_model"] == "low_noise"]
    assert len(scored) == 3, "three portraits; the fourth file is broken"
    assert all(0 < row["quality_score"] < 1 for row in scored)
    assert len({row["quality_score"] for row in scored}) == 3


def test_a_flag_touches_three_files_and_stops_a_run(tmp_path: Path) -> None:
    for name in ("Person_1", "Person_2"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "broken.jpg").write_bytes(b"no image")
    code = """
answer = {"help": [hifidata(app, [command, "--help"]).stdout for command in ("run", "submit")]}
answer["error"] = str(hifidata(app, ["run", "folder", *sets, f"--out={work}/out", "--fail-fast"]).exception)
answer["status"] = json.loads(hifidata(app, ["status", f"{work}/out", "--json"]).stdout)
"""
    _, changed, answer = tried(FLAG, tmp_path, tmp_path / "photos", code)
    assert len(changed) <= 3, changed
    assert all("--fail-fast" in text for text in answer["help"])
    assert answer["error"].startswith("--fail-fast: failed images of identity")
    assert not answer["status"]["finished"]
    assert answer["status"]["identities_committed"] == 1
