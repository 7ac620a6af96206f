"""After a kill at any moment, the same command finishes the run with the bytes of an uninterrupted run."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hifidata.core.files import TEMPORARY_PREFIX
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE, digest
from tests.factories.cli import hifidata

RECIPE = PROJECT_ROOT / "pipelines" / "folder.yaml"


def command(photos: Path, out: Path, *more: str) -> list[str]:
    sets = [word for value in (f"source.path={photos}", *QUICK_RECIPE) for word in ("--set", value)]
    return [sys.executable, "-m", "hifidata", "run", str(RECIPE), "--out", str(out), *sets, *more]


def run(photos: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the command in this process. Only runs that are killed need a process of their own."""
    return hifidata(*command(photos, out, *more)[3:])


@pytest.fixture(scope="module")
def six_people(twelve_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("people")
    for person in sorted(twelve_people.iterdir())[:6]:
        shutil.copytree(person, root / person.name)
    return root


@pytest.fixture(scope="module")
def clean_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clean") / "out"


@pytest.fixture(scope="module")
def clean(six_people: Path, clean_out: Path) -> tuple[str, float]:
    """Run without interruption on ``clean_out`` in a process of its own, and return digest and duration."""
    out = clean_out
    began = time.monotonic()
    subprocess.run(command(six_people, out), capture_output=True, check=True)
    assert digest(out) != digest(out.parent)
    return digest(out), time.monotonic() - began


def kill_and_resume(photos: Path, out: Path, after_s: float) -> None:
    process = subprocess.Popen(command(photos, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(timeout=after_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    visible = [*out.glob("shards/**/*.tar"), *out.glob("state/fragments/*/*.parquet")]
    assert not [path for path in visible if path.stat().st_size == 0]
    done = run(photos, out)
    assert done.returncode == 0, done.stderr


def assert_complete(out: Path, photos: Path) -> None:
    uris = pq.read_table(out / "manifests" / "images.parquet", columns=["source_uri"])["source_uri"].to_pylist()
    assert len(uris) == len(set(uris)) == sum(path.is_file() for path in photos.rglob("*"))
    assert not list(out.rglob(f"{TEMPORARY_PREFIX}*"))


@pytest.mark.parametrize("seed", range(2))
def test_kill_9_at_a_random_moment_then_resume_equals_a_clean_run(
    seed: int, six_people: Path, clean: tuple[str, float], tmp_path: Path
) -> None:
    expected, seconds = clean
    kill_and_resume(six_people, tmp_path / "out", random.Random(seed).uniform(0.2, 0.95) * seconds)
    assert digest(tmp_path / "out") == expected
    assert_complete(tmp_path / "out", six_people)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kill_9_at_fifty_random_moments_then_resume_equals_a_clean_run(
    six_people: Path, clean: tuple[str, float], tmp_path: Path
) -> None:
    expected, seconds = clean
    moments = random.Random(2026)
    for number in range(50):
        out = tmp_path / f"out{number}"
        kill_and_resume(six_people, out, moments.uniform(0.05, 1.0) * seconds)
        assert digest(out) == expected, f"kill {number}"
        assert_complete(out, six_people)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_exits_with_130_and_resumes(
    stop: signal.Signals, six_people: Path, clean: tuple[str, float], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(command(six_people, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list(out.glob("state/fragments/*/*.parquet")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(stop)
    _, stderr = process.communicate()
    assert process.returncode == 130
    assert "Interrupted. Finished work is safe; run the same command to resume." in stderr
    assert not (out / "dataset.json").exists()
    assert not list(out.rglob(f"{TEMPORARY_PREFIX}*"))
    assert run(six_people, out).returncode == 0
    assert digest(out) == clean[0]


def test_a_finished_dataset_is_not_changed(six_people: Path, clean: tuple[str, float], clean_out: Path) -> None:
    out = clean_out
    assert digest(out) == clean[0]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}
    done = run(six_people, out)
    assert done.returncode == 0
    assert "Nothing to do" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_second_run_on_the_same_folder_exits_with_4(twelve_people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = subprocess.Popen(command(twelve_people, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (out / "state" / "run.json").exists():
            time.sleep(0.05)
        second = run(twelve_people, out)
    finally:
        first.kill()
        first.wait()
    assert second.returncode == 4
    assert f"process {first.pid} on {os.uname().nodename}" in second.stderr


def test_a_changed_recipe_is_refused_with_the_difference_until_accepted(twelve_people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(twelve_people, out, "--limit", "2").returncode == 0
    refused = run(twelve_people, out, "--limit", "2", "--set", "crop.output_px=320")
    assert refused.returncode == 2
    assert "crop.output_px: 256 -> 320" in refused.stderr
    accepted = run(twelve_people, out, "--limit", "2", "--set", "crop.output_px=320", "--accept-recipe-change")
    assert accepted.returncode == 0, accepted.stderr
    assert json.loads((out / "dataset.json").read_text())["recipe"]["crop"]["output_px"] == 320


def test_added_and_removed_identities_do_not_affect_other_shards(twelve_people: Path, tmp_path: Path) -> None:

    photos, out = tmp_path / "photos", tmp_path / "out"
    for name in ("person_00", "person_01"):
        shutil.copytree(twelve_people / name, photos / name)
    assert run(photos, out).returncode == 0
    shards = {path: path.stat().st_mtime_ns for path in out.glob("shards/*/*.tar")}
    shutil.copytree(twelve_people / "person_02", photos / "person_02")
    shutil.rmtree(photos / "person_00")
    assert run(photos, out).returncode == 0
    names = pq.read_table(out / "manifests" / "identities.parquet")["identity_name"].to_pylist()
    assert sorted(names) == ["person_01", "person_02"]
    untouched = [path for path, mtime in shards.items() if path.exists() and path.stat().st_mtime_ns == mtime]
    assert len(untouched) == 1
    assert len(list(out.glob("shards/*/*.tar"))) == 2


def test_the_tests_of_interrupts_do_not_depend_on_a_caller_that_ignores_them() -> None:
    """``nohup make test`` ignores SIGINT, and child processes would inherit that."""
    child = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    code = f"import subprocess, sys, tests.conftest; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    for start, ignored in ((code, "False"), (code.replace(", tests.conftest", ""), "True")):
        command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", start]
        done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == ignored
