"""Environments for worker groups whose packages cannot live with ours."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import PROJECT_ROOT


def environment(folder: Path, *packages: str) -> Path:
    """Python of an environment that has some packages before everything that we run on.

    The test is skipped where they cannot be had.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    (own,) = folder.glob("lib/python*/site-packages")
    behind = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n{PROJECT_ROOT}\n"
    (own / "behind.pth").write_text(behind, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--ignore-installed", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{', '.join(packages)} could not be installed: {done.stderr.strip().splitlines()[-1]}")
    return python
