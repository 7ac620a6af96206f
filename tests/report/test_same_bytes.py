"""An image under two names is said in the report and at the end of a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa

from hifidata.report.same_bytes import same_bytes
from tests.factories.cli import hifidata
from tests.factories.images import saved


def test_images_of_several_identities_are_counted() -> None:
    rows = [
        ("1", "a", "Ann", "kept", 9), ("1", "b", "Bob", "kept", 9), ("2", "a", "Ann", "kept", 9), ("2", "a", "Ann", "dropped", 9),
        ("3", "b", "Bob", "dropped", 9), ("3", "c", "Cas", "kept", 9), ("3", "a", "Ann", "dropped", 9),
        ("4", "a", "Ann", "failed", None), ("4", "b", "Bob", "failed", None), (None, "a", "Ann", "failed", None),
        (None, "b", "Bob", "failed", None),
    ]  # fmt: skip
    names = ("content_sha256", "identity_id", "identity_name", "status", "width_px")
    found = same_bytes(pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows]))
    assert (found.n_images, found.n_kept, found.n_identities) == (2, 1, 3)
    assert found.groups == ((("Ann", "Bob"), 1), (("Ann", "Bob", "Cas"), 1))


def test_one_run_says_that_a_photo_has_two_names(tmp_path: Path) -> None:
    photo = saved(np.full((80, 80, 3), 99, np.uint8), "PNG")
    for name in ("Ann", "Bob"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / f"of_{name}.png").write_bytes(photo)
    (tmp_path / "in/Ann/note.txt").write_text("x")
    without_models = [f"--set={key}=null" for key in ("watermark.model", "quality.model", "verify.model")]
    options = ("--executor", "local", f"--set=source.path={tmp_path / 'in'}", *without_models)
    done = hifidata("run", "folder", *options, "--out", tmp_path / "out")
    assert (
        "images with the same bytes in two or more identities: 1, in 2 identities; kept more than once: 0"
        in done.stderr
    )
    assert "source.path: files left out because they are no images: 1 (1 .txt)" in done.stderr
    dataset = json.loads((tmp_path / "out/dataset.json").read_text())
    assert dataset["shared_images"] == {"images": 1, "kept": 0, "identities": 2}
    report = (tmp_path / "out/report/index.html").read_text()
    assert "<bdi>Ann</bdi>, <bdi>Bob</bdi>" in report
    assert "1 .txt" in report
    shutil.rmtree(tmp_path / "in/Bob")
    assert "same bytes" not in hifidata("run", "folder", *options, "--out", tmp_path / "out").stderr
