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

from hifimodel.errors import DataError
from hifimodel.evaluate import app
from tests.hifimodel.evaluation.test_real_pictures import write_set

if TYPE_CHECKING:
    from hifimodel.nets.loading import Modules


def change(weights: Path) -> None:
    """Another training's result under the same name: headers and sizes stay."""
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)


def test_a_model_makes_every_cell_and_the_table_counts_them(assets: Path, tiny: Modules, tmp_path: Path) -> None:
    from hifimodel.nets.loading import save_trained

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
    change(tmp_path / "model" / "refiner" / "diffusion_pytorch_model.safetensors")
    other = CliRunner().invoke(app, [*run, *options])
    assert isinstance(other.exception, DataError)
    assert "run.json: these images are of another model's weights; choose another --out" in str(other.exception)
    measure = ["--set", str(evalset.folder), "--pictures", str(out), "--recogniser", "dlib_resnet", "--json"]
    report = json.loads(CliRunner().invoke(app, measure, catch_exceptions=False).stdout)
    assert (report["rows"][0]["n_expected"], report["rows"][0]["n_pictures"]) == (2, 2)


@pytest.mark.parametrize("command", [["--set", "set"], ["build", "--shards", "shards", "--out", "set"]])
def test_a_negative_seed_is_a_usage_error(command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--seed", "-1"], catch_exceptions=False)
    assert done.exit_code == 2
    assert "seed" in done.output


def test_another_base_is_told_apart_and_another_precision_is_not(tiny: Modules, tmp_path: Path) -> None:
    import torch

    from hifimodel.evaluation.generator import load
    from hifimodel.evaluation.runner import Generate
    from hifimodel.inference.pipeline import HiFiPortraitPipeline
    from hifimodel.nets.loading import save_trained

    def digest(model: Path, *options: str) -> str:
        made: Generate = load(str(model), ["--no-safety-check", "--device", "cpu", *options])
        return str(made.digest)  # type: ignore[attr-defined]

    save_trained(tiny, tmp_path / "model")
    pipeline = HiFiPortraitPipeline.from_trained(tmp_path / "model")
    pipeline.save_pretrained(tmp_path / "same")
    with torch.no_grad():
        pipeline.vae.decoder.conv_out.weight += 1
    pipeline.save_pretrained(tmp_path / "other")
    bases = [digest(tmp_path / "model", "--base", str(tmp_path / name)) for name in ("same", "other")]
    assert bases[0] == digest(tmp_path / "model") != bases[1]
    pipeline.to(torch.bfloat16).save_pretrained(tmp_path / "halved")
    assert digest(tmp_path / "model", "--base", str(tmp_path / "halved")) == bases[1]
