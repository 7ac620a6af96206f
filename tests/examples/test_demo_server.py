"""The demo's web server: verdicts of its URLs, a stable port, and the exit code of the command."""

from __future__ import annotations

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
"""Reasons of the demo's files before face detection. This test checks these reasons and the reasons of the traps."""


def place_of(uri: str) -> str:
    """Return the key of ``EXPECTED`` for a listed URL."""
    path = unquote(urlsplit(uri).path)
    for prefix in ("/photos/", "/moved/"):
        if path.startswith(prefix):
            return path.removeprefix(prefix)
    return path if urlsplit(uri).hostname == server.HOST else uri


def test_every_url_of_the_demo_gets_its_expected_verdict_from_the_crawl(demo_photos: Path, tmp_path: Path) -> None:
    with server.serving(demo_photos) as table:
        quick = ["quality.model=null", "watermark.model=null", "verify.model=null", "crop.output_px=64"]
        where = [f"source.path={table}", "executor.kind=local", "dedup.enabled=false", "detect.model=dlib_hog"]
        recipe = load_recipe(PROJECT_ROOT / "pipelines" / "demo.yaml", [*quick, *where])
        run(recipe, RunOptions(tmp_path / "out"), lambda progress: None)
    table.unlink()  # because other tests count the files in this folder
    rows = pq.read_table(tmp_path / "out" / "manifests" / "images.parquet").to_pylist()
    reasons = {
        place_of(row["source_uri"]): row["reason"] if row["stage"] in ("fetch", "intake") else None for row in rows
    }
    traps = {trap.target for trap in server.TRAPS}
    expected = {
        place: reason if place in traps or reason in EARLY else None for place, reason in server.EXPECTED.items()
    }
    assert reasons == expected
    moved = next(row for row in rows if place_of(row["source_uri"]) == server.MOVED)
    assert moved["final_url"].endswith(f"/photos/{server.MOVED}")


def test_the_server_reuses_the_port_of_the_list_if_it_is_free(tmp_path: Path) -> None:
    with server.serving(tmp_path) as table:
        first = table.read_bytes()
        with server.serving(tmp_path) as other:
            assert other.read_bytes() != first, "the port was taken"
        table.write_bytes(first)
    with server.serving(tmp_path) as table:
        assert table.read_bytes() == first


@pytest.mark.parametrize("code", [0, 3])
def test_the_command_exits_with_the_code_of_the_command_that_it_ran(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "PHOTOS", photos.PHOTOS[:1])
    command = ["--", sys.executable, "-c", f"raise SystemExit({code})"]
    monkeypatch.setattr(sys, "argv", ["server", str(tmp_path), *command])
    assert server.main() == code
    assert (tmp_path / photos.PHOTOS[0].path).is_file()
