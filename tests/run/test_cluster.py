"""Runs on a running Ray cluster, by address and as jobs. The cluster is a real head node on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from hifidata.config.recipe import read_recipe
from hifidata.core.errors import UsageError
from hifidata.run.executors.ray_cluster import require_absolute_paths, require_address
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE
from tests.factories.cluster import BIN, Head, free_ports

FOLDER_RECIPE = PROJECT_ROOT / "pipelines" / "folder.yaml"
RUN_S = 120


def hifidata(head: Head, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "hifidata"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=RUN_S, check=False, env=head.environ, cwd="/"
    )


def overrides_for(photos: Path) -> list[str]:
    return [
        f"--set={setting}"
        for setting in (f"source.path={photos}", *QUICK_RECIPE, "executor.kind=ray", "executor.workers=1")
    ]


def test_a_run_joins_a_cluster_by_its_address(head: Head, twelve_people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    common = [str(FOLDER_RECIPE), *overrides_for(twelve_people), "--limit=2", f"--out={out}", "--json"]
    done = hifidata(head, "run", *common, f"--address={head.gcs}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["identities"] == 2
    assert "core_worker" not in done.stderr


def test_a_job_makes_the_dataset_and_exits_with_the_code_of_the_run(
    head: Head, twelve_people: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    common = [
        "submit",
        str(FOLDER_RECIPE),
        f"--address={head.dashboard}",
        *overrides_for(twelve_people),
        "--limit=2",
        f"--out={out}",
    ]
    done = hifidata(head, *common, "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert job["exit_code"] == 0
    assert (out / "dataset.json").is_file()
    assert "2 of 2 identities kept" in done.stderr
    again = hifidata(head, *common)
    assert "Nothing to do" in again.stderr
    assert again.stdout.endswith("ended with 0\n")
    changed = hifidata(head, *common, "--set=output.jpeg_quality=80")
    assert changed.returncode == 2
    assert "was made by another recipe" in changed.stderr


def test_ctrl_c_stops_the_job_and_the_same_command_resumes(head: Head, twelve_people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        str(BIN / "hifidata"),
        "submit",
        str(FOLDER_RECIPE),
        f"--address={head.dashboard}",
        f"--out={out}",
        *overrides_for(twelve_people),
    ]
    process = subprocess.Popen(command, env=head.environ, cwd="/", stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + RUN_S
    while not (out / "state").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=RUN_S)
    assert process.returncode == 130
    assert "The job is stopped." in stderr
    assert not (out / "dataset.json").exists()
    done = hifidata(head, *command[1:])
    assert done.returncode == 0, done.stderr


def test_submit_with_no_wait_returns_before_the_job_ends(head: Head, twelve_people: Path, tmp_path: Path) -> None:
    done = hifidata(head, "submit", str(FOLDER_RECIPE), f"--address={head.dashboard}", f"--out={tmp_path}/out",
                    *overrides_for(twelve_people), "--limit=1", "--no-wait", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["exit_code"] is None
    deadline = time.monotonic() + RUN_S
    while not (tmp_path / "out" / "dataset.json").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert (tmp_path / "out" / "dataset.json").exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://head:10001", "Ray Client is not supported"),
        ("nonsense", "expected auto or HOST:PORT"),
        ("x..y:1", "no answer"),
        ("head:99999999", "expected auto or HOST:PORT"),
    ],
)
def test_a_wrong_address_gives_a_one_line_error(address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        require_address(address)


def test_an_address_that_does_not_answer_gives_a_one_line_error_before_any_work(
    twelve_people: Path, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    nowhere = Head("", "", {**os.environ, "RAY_AUTH_MODE": "disabled"})
    out = tmp_path / "out"
    common = [str(FOLDER_RECIPE), *overrides_for(twelve_people), f"--out={out}"]
    for command in (["run", *common, f"--address=127.0.0.1:{port}"], ["submit", *common, f"--address=http://127.0.0.1:{port}"],
                    ["submit", *common, "--address=head:8265"], ["run", *common, "--address=auto", "--executor=local"]):  # fmt: skip
        done = hifidata(nowhere, *command)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not out.exists()


def test_a_submitted_recipe_must_have_absolute_paths() -> None:
    recipe = read_recipe(FOLDER_RECIPE, ["source.path=photos"])
    with pytest.raises(UsageError, match=r"source\.path: expected an absolute path .* got the relative path photos"):
        require_absolute_paths(recipe, "/out")
    recipe = read_recipe(FOLDER_RECIPE, ["source.path=/photos"])
    with pytest.raises(UsageError, match="--out: expected an absolute path"):
        require_absolute_paths(recipe, "out")
    require_absolute_paths(recipe, "/out")
