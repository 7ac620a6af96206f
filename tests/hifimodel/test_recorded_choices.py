"""Generation does to photos what training did to references, wherever the checkpoint is copied to."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("accelerate")

from hifidata.store.shards import members_of, write_shard  # noqa: E402
from hifimodel.config import load_preset  # noqa: E402
from hifimodel.data import DataConfig, describe_shards  # noqa: E402
from hifimodel.errors import ConfigError  # noqa: E402
from hifimodel.inference.pipeline import HiFiPortraitPipeline  # noqa: E402
from hifimodel.inference.portraits import MakerOptions, add_options, load_reader  # noqa: E402
from hifimodel.nets.checkpoint import checkpoint_choices  # noqa: E402
from hifimodel.nets.loading import build_modules, save_trained  # noqa: E402
from hifimodel.train import main  # noqa: E402
from hifimodel.training.options import RunOptions  # noqa: E402
from hifimodel.training.setup import resolved  # noqa: E402
from tests.factories.training_shards import SIDE_PX, person  # noqa: E402

QUICK = ("image_px=64", "train.steps=1", "train.batch_size=2", "train.samples=1", "train.sample_steps=1")


def matted_shards(folder: Path, model: str | None = "selfie") -> Path:
    """Shards as hifidata's matting stage leaves them."""
    samples = person(1, 6)
    for _, members in samples:
        members["alpha.png"] = bytes(cv2.imencode(".png", np.full((SIDE_PX, SIDE_PX), 255, np.uint8))[1])
        facts = json.loads(members["json"])
        members["json"] = json.dumps(facts | {"matting_model": model}).encode()
    write_shard(folder / "a.tar", samples)
    return folder


def options(model: Path, *words: object) -> MakerOptions:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return MakerOptions.of(parser.parse_args(["--model", str(model), *map(str, words)]))


def model_folder(folder: Path, *choices: str) -> Path:
    known = ("model.embedder=dlib_resnet", "model.embedder_dim=128")
    save_trained(build_modules(load_preset("tiny", [*known, *choices]).model), folder)
    return folder


def test_hifidata_says_in_every_sample_what_made_its_matte() -> None:
    assert json.loads(members_of({"matting_model": "modnet"}, b"")["json"])["matting_model"] == "modnet"


@pytest.mark.usefixtures("accelerate_alone")
def test_a_trained_model_records_its_landmarks_and_the_matting_of_its_shards(tmp_path: Path) -> None:
    settings = [part for setting in QUICK for part in ("--set", setting.replace("image", "model.image"))]
    shards = matted_shards(tmp_path / "shards")
    assert main(["--shards", str(shards), "--preset", "tiny", "--out", str(tmp_path / "run"), *settings]) == 0
    copied = shutil.copytree(tmp_path / "run" / "model", tmp_path / "elsewhere")
    choices = checkpoint_choices(copied)
    assert (choices.landmarks, choices.matting) == ("points", "selfie")


@pytest.mark.parametrize(("model", "recorded"), [("pp_matting", "pp_matting"), (None, "unnamed")])
def test_shards_tell_their_matting_even_where_they_do_not_name_it(
    model: str | None, recorded: str, tmp_path: Path
) -> None:
    assert describe_shards(DataConfig(matted_shards(tmp_path, model))).matting == recorded


def test_shards_without_mattes_have_no_matting(shards: Path) -> None:
    assert describe_shards(DataConfig(shards)).matting is None


@pytest.mark.parametrize(
    ("setting", "says"),
    [("model.landmarks=tddfa", "train.landmarks give points"), ("model.matting=modnet", ".alpha.png give None")],
)
def test_a_preset_that_says_what_training_does_not_do_is_refused(
    setting: str, says: str, shards: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        resolved(RunOptions(str(shards), tmp_path, load_preset("tiny", [setting])), lambda _: None)
    assert "\n" not in str(caught.value)


def test_a_bare_model_folder_and_a_saved_pipeline_prepare_photos_as_in_training(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not all((assets / "weights" / name).is_dir() for name in ("3ddfa", "matting")):
        pytest.skip("no 3DDFA or matting files")
    monkeypatch.setenv("HIFI_WEIGHTS", str(assets / "weights" / "matting"))
    bare = model_folder(tmp_path / "bare", "model.landmarks=tddfa", "model.matting=selfie")
    HiFiPortraitPipeline.from_trained(bare).save_pretrained(tmp_path / "saved")
    for place in (bare, tmp_path / "saved"):
        reader = load_reader(options(place, "--landmarks-weights", assets / "weights" / "3ddfa"))
        assert reader.landmarks.name == "tddfa"
        assert reader.how is not None
        assert reader.how.alpha is not None
        assert reader.how.view.side_px == 32  # the tiny tower's own, as the loader cut it
    plain = load_reader(options(bare, "--landmarks", "points", "--matting", "none"))
    assert plain.landmarks.name == "points"
    assert plain.how is not None
    assert plain.how.alpha is None


def test_a_matting_that_nobody_named_is_asked_for(tmp_path: Path, assets: Path) -> None:
    model = model_folder(tmp_path, "model.matting=unnamed")
    with pytest.raises(ConfigError, match="name it with --matting, or pass --matting none"):
        load_reader(options(model))
    assert load_reader(options(model, "--matting", "none")).how is not None
