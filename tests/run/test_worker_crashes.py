"""A crashed worker is restarted a limited number of times. Then the run ends with a line that names the group and the task.

The model library is a fake ``paddleocr`` that kills its own process. Worker groups, Ray and the command are real.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from hifidata.config.sections import STAGE_NAMES
from hifidata.weights.catalogue import entry
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE, digest
from tests.factories.cli import hifidata
from tests.factories.crawl import LOOPBACK, write_list
from tests.servers.hostile import HostileServer

Ended = Callable[..., tuple[subprocess.CompletedProcess[str], int]]
"""Type of the fixture ``ended``."""

FAKE_LIBRARY = """
import os, pathlib, signal

WHEN, CRASHES = {when!r}, pathlib.Path({crashes!r})

def crash(now):
    if now == WHEN and CRASHES.stat().st_size < {times}:
        with CRASHES.open("ab") as file:
            file.write(b".")
        os.kill(os.getpid(), signal.SIGKILL)

class TextDetection:
    def __init__(self, **settings):
        crash("loading")
    def predict(self, images, batch_size):
        crash("processing")
        return [{{"dt_polys": [], "dt_scores": []}}]

class TextRecognition(TextDetection):
    pass

if WHEN == "committed":  # the worker dies after the commit, before Ray has its answer
    from hifidata.run.worker import Worker
    commit = Worker.commit
    def commit_and_crash(self, batch):
        outcome = commit(self, batch)
        crash("committed")
        return outcome
    Worker.commit = commit_and_crash
"""


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ended]:
    """Return a function that runs ``hifidata run`` on ``folder``/out, and returns its result and the number of kills.

    The text model kills the process that imports it: with the address of a Ray, a worker. Without, this process.
    """

    def run(
        source: Sequence[str], folder: Path, when: str, times: int, address: str | None, limit: int = 1
    ) -> tuple[subprocess.CompletedProcess[str], int]:
        library, crashes = folder / "library", folder / "crashes"
        library.mkdir(parents=True)
        crashes.touch()
        (library / "paddleocr.py").write_text(FAKE_LIBRARY.format(when=when, crashes=str(crashes), times=times))
        for name in ("paddleocr_det", "paddleocr_rec"):
            model = folder / "models" / entry(name).file
            model.mkdir(parents=True)
            (model / "inference.onnx").touch()
            (model / "inference.yml").write_text("Global: {model_name: any}")
        paths = os.pathsep.join([str(library), str(PROJECT_ROOT)])
        group = {"name": "all", "stages": STAGE_NAMES, "runtime_env": {"env_vars": {"PYTHONPATH": paths}}}
        sets = [
            *QUICK_RECIPE, *source, "watermark.model=paddleocr", f"watermark.folder={folder / 'models'}",
            f"groups={json.dumps([group])}", f"executor.kind={'ray' if address else 'local'}", "executor.workers=1",
        ]  # fmt: skip
        options = [*(f"--set={setting}" for setting in sets), *([f"--address={address}"] if address else [])]
        monkeypatch.syspath_prepend(library)
        sys.modules.pop("paddleocr", None)
        done = hifidata("run", "folder", f"--out={folder / 'out'}", f"--limit={limit}", *options)
        return done, crashes.stat().st_size

    yield run
    sys.modules.pop("paddleocr", None)


@pytest.mark.parametrize(("when", "task"), [("loading", "loading its models"), ("processing", "processing 'person_0")])
def test_a_model_that_always_crashes_its_worker_ends_the_run_with_a_one_line_error_and_exit_1(
    twelve_people: Path, tmp_path: Path, when: str, task: str, ray_here: str, ended: Ended
) -> None:
    done, n_crashes = ended([f"source.path={twelve_people}"], tmp_path, when, times=99, address=ray_here)
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith("identities ")]
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: groups: all (detect dlib_hog, quality iso29794, watermark paddleocr, ")
    assert f"): its worker crashed 3 times while {task}" in lines[0]
    assert n_crashes == 3
    assert not (tmp_path / "out" / "state" / "deaths").exists()


def test_a_run_with_one_crash_gives_the_bytes_of_a_run_without_a_crash(
    twelve_people: Path, tmp_path: Path, ray_here: str, ended: Ended
) -> None:
    for name, times, address in (("crash", 1, ray_here), ("no-crash", 0, None)):
        done, n_crashes = ended([f"source.path={twelve_people}"], tmp_path / name, "processing", times, address)
        assert (done.returncode, n_crashes) == (0, times), done.stderr
    assert digest(tmp_path / "crash" / "out") == digest(tmp_path / "no-crash" / "out")


def test_workers_that_crash_after_their_commits_lose_no_identity_of_a_crawl(
    server: HostileServer, twelve_people: Path, tmp_path: Path, ray_here: str, ended: Ended
) -> None:
    table = write_list(tmp_path / "list.jsonl", server, twelve_people)
    source = [f"source={{kind: url_table, path: {table}, columns: {{identity: person, url: url}}}}", *LOOPBACK]
    requests = []
    for name, when, times, address in (("crash", "committed", 2, ray_here), ("no-crash", "processing", 0, None)):
        done, n_crashes = ended(source, tmp_path / name, when, times, address, limit=3)
        assert (done.returncode, n_crashes) == (0, times), done.stderr
        requests.append(sorted(server.paths()[sum(map(len, requests)) :]))
    crashed, clean = (
        json.loads((tmp_path / name / "out" / "dataset.json").read_bytes()) for name in ("crash", "no-crash")
    )
    assert (crashed["shards"], crashed["counts"]) == (clean["shards"], clean["counts"])
    assert crashed["counts"]["kept"] > 0
    assert requests[0] == requests[1]
