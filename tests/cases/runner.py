"""Run the reproductions of ``shared/cases``: shell scripts that call ``hifidata``, here in the process of the test.

A process of its own would take seconds for each call, and would load the models again.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import PROJECT_ROOT
from tests.factories import cli

CASES = Path(os.environ.get("HIFI_CASES", PROJECT_ROOT.parent / "shared" / "cases"))
_SHIM = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    file = server.makefile("rw", encoding="ascii")
    file.write(json.dumps([os.getcwd(), dict(os.environ), sys.argv[1:]]) + "\\n")
    file.flush()
    code, out, err = json.loads(file.readline())
sys.stdout.buffer.write(out.encode("utf-8", "surrogateescape"))
sys.stderr.buffer.write(err.encode("utf-8", "surrogateescape"))
sys.exit(code)
"""


def run_case(name: str, photos: Path, folder: Path) -> str:
    """Run ``repro.sh`` of a case, and return its output: stdout and stderr.

    Args:
        name: folder in ``shared/cases``.
        photos: the demo's photos.
        folder: an empty folder.
    """
    project, address = _project(folder, photos), folder / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(address))
        server.listen()
        server.settimeout(0.1)
        # Some scripts take files from a case beside them.
        for case in CASES.iterdir():
            (folder / f"E1_{case.name}").symlink_to(case)
        environment = {
            **os.environ,
            "PROJECT": str(project),
            "TMPDIR": str(folder),
            "ASSETS": str(CASES.parent / "assets"),
        }
        with subprocess.Popen(
            ["bash", CASES / name / "repro.sh"], env=environment, cwd=folder, text=True, errors="surrogateescape",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        ) as script:  # fmt: skip
            while script.poll() is None:
                _answer(server)
            return script.communicate()[0]


def _project(folder: Path, photos: Path) -> Path:
    """Return a folder that looks like a checkout with ``.venv``."""
    project, binaries = folder / "project", folder / "project" / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (project / "datasets").mkdir()
    (project / "datasets" / "demo-photos").symlink_to(photos)
    (project / "pipelines").symlink_to(PROJECT_ROOT / "pipelines")
    shim = binaries / "hifidata"
    shim.write_text(_SHIM.format(python=sys.executable, address=str(folder / "socket")))
    shim.chmod(0o755)
    python = binaries / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{PROJECT_ROOT}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return project


def _answer(server: socket.socket) -> None:
    """Run one command of the script, if it has sent one."""
    try:
        client, _ = server.accept()
    except TimeoutError:
        return
    with client, client.makefile("rw", encoding="ascii") as file:
        folder, environment, arguments = json.loads(file.readline())
        done = _hifidata(folder, environment, arguments)
        file.write(json.dumps([done.returncode, done.stdout, done.stderr]) + "\n")


def _hifidata(folder: str, environment: Mapping[str, str], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        return cli.hifidata(*arguments)
    finally:
        os.chdir(before)
