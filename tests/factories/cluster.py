"""A real Ray cluster with one machine, on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
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
    environ = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": f"/tmp/hifi-head-{os.getpid()}",  # socket paths must be short
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
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait()
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()


def _wait_for(dashboard: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(f"{dashboard}/api/jobs/", timeout=10).ok:
                return
        except requests.RequestException:
            time.sleep(0.5)
    raise RuntimeError(log.read_text())
