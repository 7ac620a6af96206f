"""A real Ray cluster with one machine, on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import requests

BIN = Path(sys.executable).parent
START_S = 120


class Head(NamedTuple):
    """A running cluster: its address, the URL of its dashboard, and the environment of commands that use it."""

    gcs: str
    dashboard: str
    environ: dict[str, str]


def free_ports(n: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


@contextmanager
def running_head(folder: Path) -> Iterator[Head]:
    """Start a head node, and end all of its processes after the block.

    Args:
        folder: empty folder for the log.
    """
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    temporary = tempfile.mkdtemp(prefix="hifi-", dir="/tmp")  # socket paths must be short
    environ = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": temporary,
               "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}  # fmt: skip
    command = [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", "--object-store-memory=200000000"]
    command += ["--node-ip-address=127.0.0.1", "--include-log-monitor=false"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=folder)
        dashboard = f"http://127.0.0.1:{ports['dashboard-port']}"
        try:
            _wait_for(dashboard, process, folder / "log")
            yield Head(f"127.0.0.1:{ports['port']}", dashboard, environ)
        finally:
            _kill_all(process)
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def running_node(head: Head, folder: Path) -> Iterator[psutil.Process]:
    """Add a second node with two CPUs to the cluster for the block. Yield its raylet; with it, all its workers end.

    Args:
        head: the cluster.
        folder: folder for the log.
    """
    command = [str(BIN / "ray"), "start", f"--address={head.gcs}", "--block", "--num-cpus=2"]
    command += ["--object-store-memory=100000000", "--node-ip-address=127.0.0.1", "--include-log-monitor=false"]
    with (folder / "node-log").open("wb") as log:
        process = subprocess.Popen(command, env=head.environ, stdout=log, stderr=log, cwd=folder)
        try:
            yield _raylet_of(process, folder / "node-log")
        finally:
            _kill_all(process)


def _raylet_of(process: subprocess.Popen[bytes], log: Path) -> psutil.Process:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if b"Ray runtime started" in log.read_bytes():
            return next(p for p in psutil.Process(process.pid).children(recursive=True) if p.name() == "raylet")
        time.sleep(0.1)
    raise RuntimeError(log.read_text())


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait()


def _wait_for(dashboard: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(f"{dashboard}/api/jobs/", timeout=10).ok:
                return
        except requests.RequestException:
            time.sleep(0.5)
    raise RuntimeError(log.read_text())
