"""The choices of a trained model, and the check that its parts belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel
from pydantic import ValidationError
from transformers import CLIPVisionModel

from hifimodel.config import ModelConfig, require_landmark_style
from hifimodel.errors import CheckpointError, ConditionError, one_line
from hifimodel.nets.face_refiner import FaceRefiner
from hifimodel.nets.hifinet import HiFiNet
from hifimodel.nets.loading import find_model

PARTS = ("refiner", "hifinet")


def checkpoint_choices(folder: str | Path) -> ModelConfig:
    """Read the choices of a trained model without loading its weights.

    Args:
        folder: see ``hifimodel.nets.loading.find_model``.

    Raises:
        CheckpointError: there is no model, or it has another version or landmark style.
    """
    model = find_model(folder)
    if not all((model / part / "config.json").is_file() for part in PARTS):
        reason = "no model yet" if Path(folder).is_dir() else "no such folder"
        raise CheckpointError(
            f"--model {folder}: {reason}; expected {' and '.join(PARTS)} in it or in its model/, as written by hifimodel.train"
        )
    try:
        choices = ModelConfig.model_validate(HiFiNet.load_config(model / "hifinet")["choices"])
    except (OSError, KeyError, TypeError, ValidationError) as error:
        reason = one_line(error)
        raise CheckpointError(
            f"{model}: config.json is not of this version ({reason}); use the version of hifimodel that wrote it"
        ) from error
    require_landmark_style(choices, str(model))
    return choices


def require_fit(hifinet: HiFiNet, refiner: FaceRefiner, vision: CLIPVisionModel, unet: UNet2DConditionModel) -> None:
    """Check that the parts were trained together, that this code draws their landmarks, and that the base has SDXL's shape.

    Raises:
        CheckpointError: another landmark style, or a refiner or CLIP tower of another checkpoint.
        ConditionError: the base has another architecture.
    """
    choices, own = hifinet.choices, refiner.config
    require_landmark_style(choices, "checkpoint")
    parts = {
        "refiner": (dict(own["refiner"]), choices.refiner.model_dump()),
        "embedder_dim": (own["embedding_dim"], choices.embedder_dim),
        "face_in_uncond: learned": (own["learned_null"], choices.face_in_uncond == "learned"),
        f"width of image_encoder {choices.image_encoder}": (own["clip_dim"], vision.config.hidden_size),
    }
    wrong = [f"{name}: refiner has {got}, expected {wanted}" for name, (got, wanted) in parts.items() if got != wanted]
    if wrong:
        raise CheckpointError(
            f"checkpoint: the parts were not trained together ({'; '.join(wrong)}); copy both from one run"
        )
    for key in ("block_out_channels", "cross_attention_dim", "in_channels"):
        trained, given = (_plain(config.get(key)) for config in (hifinet.config["net"], unet.config))
        if trained != given:
            raise ConditionError(
                f"base model: the UNet has {key} {given}, the checkpoint was trained with {trained}; use a base of the same "
                "architecture (SDXL)"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value  # JSON has no tuples
