"""A worker that dies is started again, and not for ever: the run ends with a line that says which, and at what.

The model library is a stand-in named ``paddleocr`` that kills its own process; worker groups, Ray and the command are real.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hifidata.config.sections import STAGE_NAMES
from hifidata.weights.catalogue import entry
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE, digest

STAND_IN = """
import os, pathlib, signal

WHEN, DEATHS = {when!r}, pathlib.Path({deaths!r})

def die(now):
    if now == WHEN and DEATHS.stat().st_size < {times}:
        with DEATHS.open("ab") as file:
            file.write(b".")
        os.kill(os.getpid(), signal.SIGKILL)

class TextDetection:
    def __init__(self, **settings):
        die("loading")
    def predict(self, pictures, batch_size):
        die("at work")
        return [{{"dt_polys": [], "dt_scores": []}}]

class TextRecognition(TextDetection):
    pass
"""


def ended(
    photos: Path, folder: Path, when: str, times: int, executor: str = "ray"
) -> tuple[subprocess.CompletedProcess[str], int]:
    """``hifidata run`` into ``folder``/out with a watermark model that kills its process, and how often it did."""
    library, deaths = folder / "library", folder / "deaths"
    library.mkdir(parents=True)
    deaths.touch()
    (library / "paddleocr.py").write_text(STAND_IN.format(when=when, deaths=str(deaths), times=times))
    for name in ("paddleocr_det", "paddleocr_rec"):
        model = folder / "models" / entry(name).file
        model.mkdir(parents=True)
        (model / "inference.onnx").touch()
        (model / "inference.yml").write_text("Global: {model_name: any}")
    sets = [
        f"source.path={photos}", *QUICK_RECIPE, "watermark.model=paddleocr", f"watermark.folder={folder / 'models'}",
        f"groups={json.dumps([{'name': 'all', 'stages': STAGE_NAMES}])}", f"executor.kind={executor}", "executor.workers=1",
    ]  # fmt: skip
    command = [sys.executable, "-m", "hifidata", "run", str(PROJECT_ROOT / "pipelines" / "folder.yaml")]
    command += ["--out", str(folder / "out"), "--limit", "1", *(part for word in sets for part in ("--set", word))]
    paths = os.pathsep.join([str(library), str(PROJECT_ROOT)])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=200, env=os.environ | {"PYTHONPATH": paths}
    )
    return done, deaths.stat().st_size


@pytest.mark.parametrize(("when", "at"), [("loading", "loading"), ("at work", "at work on 'person_0")])
def test_a_worker_that_a_model_kills_every_time_ends_the_run_with_one_line_and_exit_1(
    twelve_people: Path, tmp_path: Path, when: str, at: str
) -> None:
    done, n_deaths = ended(twelve_people, tmp_path, when, times=99)
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith("identities ")]
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: groups: all (detect dlib_hog, quality iso29794, watermark paddleocr, ")
    assert f"): its worker died 3 times while {at}" in lines[0]
    assert n_deaths == 3
    assert not (tmp_path / "out" / "state" / "deaths").exists()


def test_a_death_by_chance_is_survived_with_the_bytes_of_a_run_without_one(twelve_people: Path, tmp_path: Path) -> None:
    for name, times, executor in (("dies", 1, "ray"), ("lives", 0, "local")):
        done, n_deaths = ended(twelve_people, tmp_path / name, "at work", times, executor)
        assert (done.returncode, n_deaths) == (0, times), done.stderr
    assert digest(tmp_path / "dies" / "out") == digest(tmp_path / "lives" / "out")
