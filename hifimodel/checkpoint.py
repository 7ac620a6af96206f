"""Where a trained model lies, and whether its parts belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from diffusers import UNet2DConditionModel
from pydantic import ValidationError
from transformers import CLIPVisionModel

from hifimodel.config import ModelConfig
from hifimodel.errors import CheckpointError, ConditionError
from hifimodel.face_refiner import FaceRefiner
from hifimodel.hifinet import HiFiNet
from hifimodel.landmarks import STYLE_VERSION

MODEL_FOLDER = "model"
"""Where ``hifimodel.train`` puts the final model, inside the folder of its run."""
CHECKPOINTS = "checkpoints/step-*"
PRESET_FILE = "preset.yaml"
"""What a run was trained with, in its folder."""
PARTS = ("refiner", "hifinet")


def checkpoint_folder(folder: str | Path) -> Path:
    """The folder with ``refiner/`` and ``hifinet/``: the one given, or that of a training run.

    Of a run, the finished model counts, or the newest checkpoint while there is none.

    Raises:
        CheckpointError: there is no model.
    """
    given = Path(folder)
    for place in (given, given / MODEL_FOLDER, *sorted(given.glob(CHECKPOINTS), reverse=True)):
        if all((place / part / "config.json").is_file() for part in PARTS):
            return place
    reason = "no model yet" if given.is_dir() else "no such folder"
    raise CheckpointError(
        f"--model {folder}: {reason}; expected {' and '.join(PARTS)} in it or in its {MODEL_FOLDER}/, as hifimodel.train "
        "writes them"
    )


def checkpoint_choices(folder: str | Path) -> ModelConfig:
    """What a trained model is, without loading it.

    Args:
        folder: as for ``checkpoint_folder``.

    Raises:
        CheckpointError: there is no model, it is of another version, or its landmark pictures have another style.
    """
    place = checkpoint_folder(folder) / "hifinet"
    try:
        choices = ModelConfig.model_validate(HiFiNet.load_config(place)["choices"])
    except (OSError, KeyError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{place}: its config.json is not one of this version ({reason}); use the version of hifimodel that wrote it"
        ) from error
    require_style(choices)
    return choices


def require_style(choices: ModelConfig) -> None:
    """Raises CheckpointError unless this code draws landmarks as the model was trained."""
    if choices.landmark_style != STYLE_VERSION:
        raise CheckpointError(
            f"landmark style: the checkpoint was trained on {choices.landmark_style!r}, this version draws "
            f"{STYLE_VERSION!r}; train again, or use the version of hifimodel that trained it"
        )


def trained_landmarks(folder: str | Path) -> str | None:
    """Name of the landmark backend that a run was trained with; None where its folder does not say.

    Args:
        folder: as for ``checkpoint_folder``.
    """
    model = checkpoint_folder(folder)
    for place in (model, *model.parents[:2]):
        if (place / PRESET_FILE).is_file():
            return _landmarks_of(place / PRESET_FILE)
    return None


def require_fit(hifinet: HiFiNet, refiner: FaceRefiner, vision: CLIPVisionModel, unet: UNet2DConditionModel) -> None:
    """Raises unless these were trained together, this code draws their landmarks, and the base has SDXL's shape.

    Raises:
        CheckpointError: another landmark style, or a refiner or CLIP tower of another checkpoint.
        ConditionError: another kind of base.
    """
    choices, own = hifinet.choices, refiner.config
    require_style(choices)
    parts = {
        "refiner": (dict(own["refiner"]), choices.refiner.model_dump()),
        "embedder_dim": (own["embedding_dim"], choices.embedder_dim),
        "face_in_uncond: learned": (own["learned_null"], choices.face_in_uncond == "learned"),
        f"width of image_encoder {choices.image_encoder}": (own["clip_dim"], vision.config.hidden_size),
    }
    wrong = [f"{name}: refiner has {got}, expected {wanted}" for name, (got, wanted) in parts.items() if got != wanted]
    if wrong:
        raise CheckpointError(
            f"checkpoint: its parts were not trained together ({'; '.join(wrong)}); copy both from one run"
        )
    for key in ("block_out_channels", "cross_attention_dim", "in_channels"):
        trained, given = (_plain(config[key]) for config in (hifinet.config["net"], unet.config))
        if trained != given:
            raise ConditionError(
                f"base model: its UNet has {key} {given}, the checkpoint was trained on one with {trained}; use a base of "
                "the same architecture (SDXL)"
            )


def _landmarks_of(preset: Path) -> str | None:
    try:
        return yaml.safe_load(preset.read_text(encoding="utf-8"))["train"].get("landmarks")
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{preset}: no preset ({' '.join(str(error).split())}); name the landmark generator with --landmarks"
        ) from error


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value  # JSON knows no tuples
