"""Kills at random moments of runs on a cluster with two nodes. The dataset is always that of a run without a kill.

Ray, its nodes, the command and the web server are real. ``HIFI_CHAOS_KILLS`` sets the number of kills, 200 without it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import PROJECT_ROOT, QUICK_RECIPE
from tests.factories.cluster import Head, running_head, running_node
from tests.factories.crawl import LOOPBACK, write_list
from tests.servers.hostile import HostileServer

KILLS = int(os.environ.get("HIFI_CHAOS_KILLS", "200"))
VICTIMS = ("worker", "reader", "node", "driver")
PARALLEL_REQUESTS = 4
"""``fetch.connections_per_host`` of ``LOOPBACK``: the most answers that one kill can lose."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(KILLS * 120)]


@pytest.fixture(scope="module")
def own_head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with running_head(tmp_path_factory.mktemp("own-head")) as head:
        yield head


class Trial:
    """One run on the cluster that is hit once."""

    def __init__(self, head: Head, source: list[str], out: Path) -> None:
        settings = [*QUICK_RECIPE, *source, "executor.workers=2", "groups=[{name: all, num_cpus: 1, stages: [intake]}]"]
        self.out = out
        self.environ = head.environ
        self.command = [sys.executable, "-m", "hifidata", "run", "folder", f"--out={out}", "--limit=4", "--executor=ray",
                        f"--address={head.gcs}", *(f"--set={setting}" for setting in settings)]  # fmt: skip

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command,
            env=self.environ,
            cwd=PROJECT_ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, driver: subprocess.Popen[str]) -> None:
        """Wait for the end of the run. After a kill of the driver, the same command resumes."""
        _, stderr = driver.communicate()
        if driver.returncode == -signal.SIGKILL:
            driver = self.start()
            _, stderr = driver.communicate()
        assert driver.returncode == 0, stderr

    def result(self) -> tuple[object, object]:
        dataset = json.loads((self.out / "dataset.json").read_bytes())
        return dataset["shards"], dataset["counts"]


def process_named(session: str, title: str, driver: subprocess.Popen[str]) -> psutil.Process | None:
    """Wait for a Ray process of the session with this title. Return None if the driver ends first."""
    while driver.poll() is None:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if (
                    process.name().startswith("ray::")
                    and title in process.cmdline()[0]
                    and session in environ_of(process)
                ):
                    return process
        time.sleep(0.02)
    return None


def environ_of(process: psutil.Process) -> str:
    return process.environ().get("RAY_TMPDIR", "")


@pytest.fixture
def source(request: pytest.FixtureRequest, server: HostileServer, twelve_people: Path, tmp_path: Path) -> list[str]:
    if request.param == "folder":
        return [f"source.path={twelve_people}"]
    table = write_list(tmp_path / "list.jsonl", server, twelve_people)
    return [f"source={{kind: url_table, path: {table}, columns: {{identity: person, url: url}}}}", *LOOPBACK]


@pytest.mark.parametrize("source", ["folder", "crawl"], indirect=True)
@pytest.mark.parametrize("victim", VICTIMS)
def test_a_run_with_a_kill_at_a_random_moment_gives_the_dataset_of_a_clean_run(
    victim: str, source: list[str], server: HostileServer, own_head: Head, tmp_path: Path
) -> None:
    with running_node(own_head, tmp_path):
        clean = Trial(own_head, source, tmp_path / "clean")
        began = time.monotonic()
        clean.finish(clean.start())
        seconds = time.monotonic() - began
    n_before, moments = len(server.paths()), random.Random(f"{victim} {source[0]}")
    once = Counter(server.paths())
    for number in range(max(1, KILLS // 8)):
        trial = Trial(own_head, source, tmp_path / f"out{number}")
        with running_node(own_head, tmp_path) as node:
            driver = trial.start()
            with suppress(subprocess.TimeoutExpired):
                driver.wait(moments.uniform(0, seconds))
            kill(victim, driver, node, own_head)
            trial.finish(driver)
        assert trial.result() == clean.result(), f"kill {number} of a {victim}"
        requests = Counter(server.paths()[n_before:])
        n_before += requests.total()
        again = requests - once
        assert requests.keys() == once.keys()
        assert again.total() <= (0 if victim == "worker" else PARALLEL_REQUESTS), (
            f"kill {number} of a {victim}: {again}"
        )


def kill(victim: str, driver: subprocess.Popen[str], node: psutil.Process, head: Head) -> None:
    titles = {"worker": "MapWorker", "reader": "ReadPendingIdentities"}
    process: psutil.Process | None
    if victim == "driver":
        process = psutil.Process(driver.pid) if driver.poll() is None else None
    elif victim == "node":
        process = node
    else:
        process = process_named(head.environ["RAY_TMPDIR"], titles[victim], driver)
    with suppress(psutil.NoSuchProcess):
        if process is not None:
            process.kill()
