"""Presets hold the paper's numbers, and a wrong key is one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from hifimodel.config import ModelConfig, TrainConfig, load_preset, preset_names, require_same_model
from hifimodel.errors import CheckpointError, ConfigError


def test_sdxl_preset_holds_the_papers_numbers() -> None:
    preset = load_preset("sdxl")
    model, train = preset.model, preset.train
    assert (model.refiner.dim, model.embedder_dim, model.refiner.n_layers) == (2048, 512, 5)
    assert (model.refiner.n_learnable_tokens, model.image_px) == (32, 1024)
    assert (train.learning_rate, train.batch_size, train.steps, train.text_drop) == (2e-5, 24, 800_000, 0.1)
    assert (train.min_references, train.max_references, train.id_weight, train.id_gate) == (1, 4, 0.1, "detector")


def test_defaults_in_code_are_those_of_the_sdxl_preset() -> None:
    preset = load_preset("sdxl")
    assert preset.model == ModelConfig()
    assert preset.train == TrainConfig()


def test_ablation_differs_from_sdxl_in_an_eighth_of_the_steps_alone() -> None:
    full, ablation = load_preset("sdxl"), load_preset("sdxl-ablation")
    assert ablation.train.steps * 8 == full.train.steps
    assert ablation.model == full.model
    assert ablation.train.model_copy(update={"steps": full.train.steps}) == full.train


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_resolves(name: str) -> None:
    assert load_preset(name).train.steps > 0


def test_a_file_may_extend_a_preset_and_overrides_win(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: tiny\ntrain: {steps: 7, seed: 3}\n")
    preset = load_preset(path, ["train.steps=9", "model.refiner.n_layers=1"])
    assert (preset.train.steps, preset.train.seed, preset.model.refiner.n_layers) == (9, 3, 1)
    assert preset.model.architecture == "tiny"


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("train.stps=3", "did you mean steps"),
        ("model.refiner.n_head=3", "did you mean n_heads"),
        ("train.steps", "section.key=value"),
        ("train.steps.more=1", "is a value"),
        ("train.steps=[", "not YAML"),
        ("model.face_in_uncond=zeros", "face_drop_rate above 0"),
        ("train.max_references=5", "must exceed max_references"),
        ("model.refiner.n_heads=7", "not a multiple"),
        ("train.learning_rate=.nan", "finite"),
    ],
)
def test_a_wrong_override_is_one_line_with_a_remedy(override: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint) as caught:
        load_preset("tiny", [override])
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("text", "hint"), [("- 1", "sections"), ("a: [", "YAML"), ("extends: nowhere", "presets are")])
def test_a_wrong_file_is_one_line_with_a_remedy(tmp_path: Path, text: str, hint: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=hint) as caught:
        load_preset(path)
    assert "\n" not in str(caught.value)


def test_a_preset_that_extends_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text(f"extends: {path}\n")
    with pytest.raises(ConfigError, match="extends itself"):
        load_preset(path)


def test_global_batch_is_split_over_processes_and_accumulated_steps() -> None:
    train = load_preset("sdxl", ["train.gradient_accumulation=2"]).train
    assert train.micro_batch(4) == 3
    with pytest.raises(ConfigError, match="multiple of 10"):
        train.micro_batch(5)


def test_static_shapes_tile_to_twelve_for_one_to_four_references() -> None:
    assert load_preset("sdxl", ["train.static_shapes=true"]).train.tile_to == 12
    assert load_preset("sdxl").train.tile_to is None


def test_a_checkpoint_of_another_landmark_style_is_refused_by_name() -> None:
    model = ModelConfig()
    require_same_model(model, model.model_copy(), "runs/a")
    with pytest.raises(CheckpointError, match="landmark_style: lines68-1 there, mesh-1 requested"):
        require_same_model(model, model.model_copy(update={"landmark_style": "mesh-1"}), "runs/a")
