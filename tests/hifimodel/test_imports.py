"""The packages share stated modules only, and torchvision is not imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT_ROOT

FILES = [path for package in ("hifidata", "hifimodel") for path in sorted((PROJECT_ROOT / package).rglob("*.py"))]

SHARED = tuple(f"hifidata.{room}." for room in ("core", "config.loader", "image", "models", "weights"))
"""Rooms of hifidata that hifimodel may import."""


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROJECT_ROOT).as_posix())
def test_packages_share_stated_modules_and_torchvision_is_not_imported(path: Path) -> None:
    names = set(imported(path))
    assert not {name for name in names if name.split(".")[0] == "torchvision"}
    if path.is_relative_to(PROJECT_ROOT / "hifidata"):
        assert not {name for name in names if name.split(".")[0] == "hifimodel"}
    else:
        internals = {f"{name}." for name in names if name.split(".")[0] == "hifidata"}
        assert not {name for name in internals if not name.startswith(SHARED)}
