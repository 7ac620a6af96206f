"""Fixtures that many tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real photos and awkward files; the test is skipped where it is absent."""
    folder = Path(os.environ.get("HIFI_ASSETS", PROJECT_ROOT.parent / "shared" / "assets"))
    if not folder.is_dir():
        pytest.skip(f"test assets not found at {folder}; set HIFI_ASSETS to the folder that holds faces/ and edge/")
    return folder
