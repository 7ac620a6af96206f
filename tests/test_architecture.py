"""Imports point down only, heavy packages stay where they belong, and the command line starts fast."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT_ROOT, RAY_FILES

LAYERS = {
    "core": 0, "image": 1, "fetch": 1, "store": 1, "weights": 1, "models": 2, "sources": 2, "config": 3, "stages": 4, "report": 4,
    "run": 5, "cli": 6,
}  # fmt: skip
HOMES = {"torch": "models", "ray": "run", "paddle": "models", "paddleocr": "models", "transformers": "models"}
FILES = sorted((PROJECT_ROOT / "hifidata").rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module == "hifidata":
                yield from (f"hifidata.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PROJECT_ROOT / "hifidata").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROJECT_ROOT).as_posix())
def test_imports_point_down_only(path: Path) -> None:
    own = LAYERS.get(room_of(path))
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("hifidata.")}
    upward = {room for room in rooms if own is not None and LAYERS.get(room, 0) > own}
    assert not upward, f"{path.name} (layer {own}) imports {upward}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROJECT_ROOT).as_posix())
def test_heavy_packages_are_imported_only_where_they_belong(path: Path) -> None:
    strays = {name for name in imported(path) if HOMES.get(name.split(".")[0], room_of(path)) != room_of(path)}
    assert not strays


def test_report_sees_core_and_store_alone() -> None:
    rooms = {
        name.split(".")[1]
        for path in FILES
        if room_of(path) == "report"
        for name in imported(path)
        if name.startswith("hifidata.")
    }
    assert rooms <= {"report", "core", "store"}


def test_the_files_that_run_together_for_ray_are_there() -> None:
    assert not {file for file in RAY_FILES if not (PROJECT_ROOT / "tests" / file).is_file()}


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, hifidata.cli.main\n"
        "heavy = {'torch','ray','cv2','numpy','pyarrow','pydantic','sklearn','dlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_starts_quickly_compared_with_the_interpreter() -> None:
    def seconds(*args: str) -> float:
        best = float("inf")
        for _ in range(3):
            began = time.perf_counter()
            subprocess.run([sys.executable, *args], capture_output=True, check=True)
            best = min(best, time.perf_counter() - began)
        return best

    # numpy alone is the yardstick: a machine twice as slow is twice as slow at both.
    assert seconds("-m", "hifidata", "--help") < 8 * seconds("-c", "import numpy")
