"""From a trained model's folder to a table, with the tiny model, which has learned nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("hifimodel.generate", reason="the pipeline is not there")

from hifimodel.evaluate import app
from tests.hifimodel.test_evaluation_real import write_set

if TYPE_CHECKING:
    from hifimodel.build import Modules


def test_a_model_makes_every_cell_and_the_table_counts_them(assets: Path, tiny: Modules, tmp_path: Path) -> None:
    from hifimodel.build import save_trained

    save_trained(tiny, tmp_path / "model")
    people = {"rose": [f"face_recognition/knn__train__rose_leslie__img{number}" for number in (1, 2)]}
    evalset = write_set(tmp_path / "set", assets, people)
    out = tmp_path / "out"
    run = ["run", "--set", str(evalset.folder), "--model", str(tmp_path / "model"), "--out", str(out), "--json"]
    options = ["--", "--steps", "2", "--no-safety-check", "--device", "cpu"]
    first = CliRunner().invoke(app, [*run, *options], catch_exceptions=False)
    assert json.loads(first.stdout) == {"made": 2, "skipped": 0, "failed": 0}
    pictures = [np.asarray(Image.open(path)) for path in sorted(out.rglob("*.png"))]
    assert [picture.shape for picture in pictures] == [(128, 128, 3)] * 2
    assert not np.array_equal(*pictures)  # two seeds
    again = CliRunner().invoke(app, [*run, *options], catch_exceptions=False)
    assert json.loads(again.stdout) == {"made": 0, "skipped": 2, "failed": 0}
    measure = ["--set", str(evalset.folder), "--pictures", str(out), "--recogniser", "dlib_resnet", "--json"]
    report = json.loads(CliRunner().invoke(app, measure, catch_exceptions=False).stdout)
    assert (report["rows"][0]["n_expected"], report["rows"][0]["n_pictures"]) == (2, 2)


@pytest.mark.parametrize("command", [["--set", "set"], ["build", "--shards", "shards", "--out", "set"]])
def test_a_negative_seed_is_a_usage_error(command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--seed", "-1"], catch_exceptions=False)
    assert done.exit_code == 2
    assert "-1 is not in the range" in done.output
