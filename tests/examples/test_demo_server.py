"""The demo's web site: what its URLs end as, the same port again, the command's exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow.parquet as pq
import pytest

from examples.demo import photos, server
from hifidata.config.recipe import load_recipe
from hifidata.run.run import RunOptions, run
from tests.conftest import PROJECT_ROOT

EARLY = ("empty_file", "not_image", "format_not_allowed", "too_small", "truncated", "corrupt")
"""Reasons that files of the demo end for before a face is looked for; with those of the traps, this test's."""


def place_of(uri: str) -> str:
    """The key of ``EXPECTED`` that a listed URL stands for."""
    path = unquote(urlsplit(uri).path)
    for prefix in ("/photos/", "/moved/"):
        if path.startswith(prefix):
            return path.removeprefix(prefix)
    return path if urlsplit(uri).hostname == server.HOST else uri


def test_every_url_of_the_demo_ends_at_the_crawl_as_promised(demo_photos: Path, tmp_path: Path) -> None:
    with server.serving(demo_photos) as table:
        quick = ["quality.model=null", "watermark.model=null", "verify.model=null", "crop.output_px=64"]
        where = [f"source.path={table}", "executor.kind=local", "dedup.enabled=false", "detect.model=dlib_hog"]
        recipe = load_recipe(PROJECT_ROOT / "pipelines" / "demo.yaml", [*quick, *where])
        run(recipe, RunOptions(tmp_path / "out"), lambda progress: None)
    table.unlink()  # other tests count the files of this folder
    rows = pq.read_table(tmp_path / "out" / "manifests" / "images.parquet").to_pylist()
    ends = {place_of(row["source_uri"]): row["reason"] if row["stage"] in ("fetch", "intake") else None for row in rows}
    traps = {trap.target for trap in server.TRAPS}
    promised = {place: end if place in traps or end in EARLY else None for place, end in server.EXPECTED.items()}
    assert ends == promised
    moved = next(row for row in rows if place_of(row["source_uri"]) == server.MOVED)
    assert moved["final_url"].endswith(f"/photos/{server.MOVED}")


def test_the_list_keeps_its_port_while_it_is_free(tmp_path: Path) -> None:
    with server.serving(tmp_path) as table:
        first = table.read_bytes()
        with server.serving(tmp_path) as other:
            assert other.read_bytes() != first, "the port was taken"
        table.write_bytes(first)
    with server.serving(tmp_path) as table:
        assert table.read_bytes() == first


@pytest.mark.parametrize("code", [0, 3])
def test_the_command_ends_with_the_exit_code_of_what_it_ran(code: int, demo_photos: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "examples.demo.server",
        str(tmp_path),
        "--",
        sys.executable,
        "-c",
        f"raise SystemExit({code})",
    ]
    assert subprocess.run(command, check=False, cwd=PROJECT_ROOT).returncode == code
    assert (tmp_path / photos.PHOTOS[0].path).is_file()
