"""The dataset folder of the report tests."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.report.synthetic_dataset import write_dataset


@pytest.fixture(scope="session")
def drawn_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Draw a dataset of ten identities with 24 candidates each, once per session because drawing is slow."""
    folder = tmp_path_factory.mktemp("drawn") / "dataset"
    return folder, write_dataset(folder)


@pytest.fixture
def dataset(drawn_once: tuple[Path, dict[str, Any]], tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Copy the dataset folder and its run record, so that the test may change both."""
    folder, run = drawn_once
    return Path(shutil.copytree(folder, tmp_path / "dataset")), copy.deepcopy(run)
