"""Rules of the architecture: layers of imports, places of heavy packages, unique class names, fast ``--help``."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache

import pytest

from tests.conftest import PROJECT_ROOT, RAY_FILES

LAYERS = {
    "core": 0, "image": 1, "fetch": 1, "store": 1, "weights": 1, "models": 2, "sources": 2, "config": 3, "stages": 4, "report": 5,
    "run": 6, "cli": 7,
}  # fmt: skip
HOMES = {"torch": "models", "paddle": "models", "paddleocr": "models", "transformers": "models", "ray": "run/executors"}
SHARED = ("core", "config.loader", "image", "models", "weights")
"""Parts of hifidata that hifimodel may import."""


@cache
def imports_of(package: str) -> Mapping[str, frozenset[str]]:
    """Return the imported names, including ``module.name``, by path inside the package."""
    found = {}
    for path in sorted((PROJECT_ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[path.relative_to(PROJECT_ROOT / package).as_posix()] = frozenset(_imported(tree))
    return found


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: str) -> str:
    return path.split("/")[0].removesuffix(".py")


def test_imports_point_down_only() -> None:
    upward = {
        f"{path} imports {name}"
        for path, names in imports_of("hifidata").items()
        for name in names
        if name.startswith("hifidata.") and room_of(path) in LAYERS
        if LAYERS.get(name.split(".")[1], 0) > LAYERS[room_of(path)]
    }
    assert not upward


def test_heavy_packages_are_imported_only_where_they_belong() -> None:
    strays = {
        f"{path} imports {name}"
        for path, names in imports_of("hifidata").items()
        for name in names
        if not path.startswith(HOMES.get(name.split(".")[0], "")) and path != "run/executors/ray_cluster.py"
    }
    assert not strays


def test_the_report_imports_only_core_store_and_declarations() -> None:
    seen = {
        ".".join(name.split(".")[1:3])
        for path, names in imports_of("hifidata").items()
        if room_of(path) == "report"
        for name in names
        if name.startswith("hifidata.")
    }
    declarations = {"config.sections", "fetch.reasons", "image.reasons", "sources.reasons"}
    assert {name for name in seen if name.split(".")[0] not in ("report", "core", "store", "stages")} <= declarations


def test_hifidata_does_not_import_hifimodel_and_torchvision_is_not_imported() -> None:
    both = {**imports_of("hifidata"), **imports_of("hifimodel")}
    assert not {path for path, names in both.items() if any(name.split(".")[0] == "torchvision" for name in names)}
    assert not {name for names in imports_of("hifidata").values() for name in names if name.startswith("hifimodel")}
    used = {name for names in imports_of("hifimodel").values() for name in names if name.startswith("hifidata.")}
    assert not {name for name in used if not name.removeprefix("hifidata.").startswith(SHARED)}


@pytest.mark.parametrize("package", ["hifidata", "hifimodel"])
def test_no_public_class_name_exists_twice_in_a_package(package: str) -> None:
    places = defaultdict[str, list[str]](list)
    for path in sorted((PROJECT_ROOT / package).rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path.relative_to(PROJECT_ROOT).as_posix())
    assert not {name: files for name, files in places.items() if len(files) > 1}


def test_the_listed_files_with_ray_tests_exist() -> None:
    assert not {file for file in RAY_FILES if not (PROJECT_ROOT / "tests" / file).is_file()}


@pytest.mark.parametrize(
    ("module", "packages"),
    [
        ("hifidata.cli.main", {"torch", "ray", "cv2", "numpy", "pyarrow", "pydantic", "sklearn", "dlib"}),
        ("hifidata.run.plan", {"torch", "ray", "sklearn", "dlib"}),
    ],
)
def test_help_and_plan_import_nothing_heavy(module: str, packages: set[str]) -> None:
    code = (
        f"import sys, {module}; heavy = {packages} & set(sys.modules); sys.exit(f'imported {{heavy}}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
