"""Presets: every number of the paper, and every choice that it leaves open, by name.

A preset is a YAML file with the sections ``model`` (the networks; stored in the checkpoint) and ``train`` (the training).
Defaults are the paper's, or ours where the paper gives none; the comments in ``presets/sdxl.yaml`` say which.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from hifidata.config.loader import apply_overrides, read_yaml
from hifidata.core.base_config import BaseConfig, validate
from hifimodel.errors import CheckpointError, ConfigError
from hifimodel.landmarks.draw import STYLE_VERSION

PRESETS = Path(__file__).parent / "presets"


class RefinerConfig(BaseConfig):
    """The face refiner (Eq. 2-4). The paper gives ``dim``, ``n_layers`` and ``n_learnable_tokens``."""

    dim: int = Field(2048, gt=0, description="d; must equal the UNet's cross_attention_dim")
    n_layers: int = Field(5, gt=0)
    n_heads: int = Field(32, gt=0, description="ours: 64 channels per head, as in SDXL")
    ffn_dim: int = Field(8192, gt=0, description="ours: 4 d, the ratio of the transformer that the paper cites")
    n_learnable_tokens: int = Field(32, ge=0)
    norm_first: bool = Field(True, description="ours: pre-norm trains at a constant rate without warm-up")
    memory_norm: bool = Field(True, description="ours: LayerNorm on keys and values; CLIP tokens have outlier channels")
    final_norm: bool = Field(True, description="ours: keeps tokens at the scale that text-trained to_k and to_v expect")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> RefinerConfig:
        if self.dim % self.n_heads:
            raise ValueError(f"dim {self.dim} is not a multiple of n_heads {self.n_heads}")
        return self


class ModelConfig(BaseConfig):
    """The networks of a checkpoint. Two checkpoints can replace each other only if their configs are equal."""

    architecture: Literal["sdxl", "tiny"] = "sdxl"
    image_px: int = Field(1024, ge=64, multiple_of=8, description="side of the training images")
    image_encoder: str = Field("openai/clip-vit-large-patch14", description="CLIP vision tower: Hub name or folder")
    clip_layer: int = Field(-2, le=-1, description="hidden state that is F_local; -1 is the last")
    embedder: str = Field("w600k_r50", description="E_id, a key of hifimodel.nets.embedder.EMBEDDERS")
    embedder_dim: int = Field(512, gt=0, description="d2")
    refiner: RefinerConfig = RefinerConfig()
    landmark_style: str = Field(STYLE_VERSION, description="version of the drawing of I_lmk")
    landmarks: str = Field("points", description="recorded by training: train.landmarks, the backend of I_lmk")
    matting: str | None = Field(None, description="recorded by training: the model of the shards' .alpha.png, if any")
    pooled_text: Literal["prompt", "zeros"] = Field("prompt", description="HiFi-Net's pooled text")
    empty_text: Literal["zeros", "encode"] = Field("zeros", description="dropped text: SDXL's zeros, or an encoded ''")
    face_drop_rate: float = Field(0.0, ge=0, lt=1, description="share of training samples without face tokens")
    face_in_uncond: Literal["same", "zeros", "learned"] = Field(
        "same", description="faces in the unconditional half of guidance: the same, encoded zeros, or learned tokens"
    )

    @model_validator(mode="after")
    def _unconditional_faces_were_trained(self) -> ModelConfig:
        if self.face_in_uncond != "same" and self.face_drop_rate == 0:
            raise ValueError(
                f"face_in_uncond {self.face_in_uncond} needs face_drop_rate above 0: guidance would use an untrained state"
            )
        return self


class TrainConfig(BaseConfig):
    """How a checkpoint is trained (section 4.1)."""

    seed: int = Field(0, ge=0)
    steps: int = Field(800_000, gt=0)
    batch_size: int = Field(24, gt=0, description="over all processes and accumulated steps")
    gradient_accumulation: int = Field(1, gt=0)
    optimizer: Literal["adam", "adam8bit"] = "adam"
    learning_rate: float = Field(2e-5, gt=0)
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    max_grad_norm: float | None = Field(1.0, gt=0)
    text_drop: float = Field(0.1, ge=0, lt=1)
    min_references: int = Field(1, ge=1)
    max_references: int = Field(4, ge=1)
    min_images_per_identity: int = Field(5, ge=2)
    landmarks: str = Field("points", description="ours: landmark backend of I_lmk, a key of hifimodel.landmarks")
    loader_workers: int = Field(4, ge=0, description="decoding processes per training process; 0 decodes in it")
    static_shapes: bool = Field(False, description="tile references to lcm(min..max), so that shapes never change")
    id_weight: float = Field(0.1, ge=0, description="alpha of Eq. 8; 0 disables the identity loss")
    id_gate: Literal["detector", "timestep", "target_kps"] = "detector"
    id_detector: str = Field("retinaface", description="E_det of the detector gate, a detector of hifidata's recipes")
    id_max_timestep: int = Field(500, ge=0, le=1000, description="for the timestep gate")
    id_timestep_weight: Literal["none", "error"] = Field(
        "none", description="error: undo the amplification by predicting x0"
    )
    id_margin: float = Field(0.5, ge=0, description="border around the aligned face that is decoded, over its side")
    ema_decay: float | None = Field(None, gt=0, lt=1)
    mixed_precision: Literal["no", "fp16", "bf16"] = "bf16"
    gradient_checkpointing: bool = True
    channels_last: bool = True
    compile: bool = False
    latent_cache: bool = Field(False, description="keep target latents on disk: 131 kB per 1024 px image")
    log_every: int = Field(50, gt=0)
    sample_every: int = Field(2000, gt=0, description="steps between sample grids, loss plots and probes")
    samples: int = Field(4, gt=0, description="rows of the grid, and samples of the probe")
    sample_steps: int = Field(20, gt=0, description="steps of the sampler")
    checkpoint_every: int = Field(2000, gt=0)
    keep_checkpoints: int = Field(3, gt=0)
    metrics: Literal["csv", "tensorboard"] = "csv"

    @model_validator(mode="after")
    def _references_fit(self) -> TrainConfig:
        if self.min_references > self.max_references:
            raise ValueError(f"min_references {self.min_references} is above max_references {self.max_references}")
        if self.min_images_per_identity <= self.max_references:
            raise ValueError(
                f"min_images_per_identity {self.min_images_per_identity} must exceed max_references {self.max_references}"
            )
        return self

    def micro_batch(self, n_processes: int) -> int:
        """Return the samples per process and forward pass. Raises ConfigError if the global batch does not divide."""
        parts = n_processes * self.gradient_accumulation
        if self.batch_size % parts:
            raise ConfigError(
                f"train.batch_size: {self.batch_size} does not divide over {n_processes} processes x "
                f"{self.gradient_accumulation} accumulated steps; set it to a multiple of {parts}"
            )
        return self.batch_size // parts

    @property
    def tile_to(self) -> int | None:
        """Number of references to tile every sample to; None: the least that the batch needs."""
        return math.lcm(*range(self.min_references, self.max_references + 1)) if self.static_shapes else None


class PresetConfig(BaseConfig):
    """A whole preset file."""

    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()


def preset_names() -> list[str]:
    """Return the names of the packaged presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name_or_path: str | Path, overrides: Sequence[str] = ()) -> PresetConfig:
    """Read a preset by name or file.

    Args:
        name_or_path: ``tiny``, ``sdxl``, ``sdxl-ablation``, or a YAML file. A file with ``extends: NAME`` starts from another
            preset and holds only the differences.
        overrides: ``section.key=value`` strings; the value is read as YAML.

    Raises:
        ConfigError: no such preset, invalid YAML, or a wrong key or value; names the nearest valid key.
    """
    data = apply_overrides(_read(str(name_or_path)), overrides, ConfigError, "train.steps=1000")
    return validate(PresetConfig, data, f"preset {name_or_path}", ConfigError)


def require_same_model(checkpoint: ModelConfig, wanted: ModelConfig, where: str) -> None:
    """Raise CheckpointError, naming every difference, unless both describe the same model."""
    if changed := _changes(checkpoint, wanted):
        raise CheckpointError(
            f"{where}: trained as another model ({changed}); use its own preset, or start a new folder"
        )


FREE_TO_CHANGE = frozenset({
    "steps", "log_every", "sample_every", "samples", "sample_steps", "checkpoint_every", "keep_checkpoints", "metrics",
})  # fmt: skip
"""Keys of ``train`` that may change on resume: no gradient depends on them."""


def require_same_training(before: TrainConfig, wanted: TrainConfig, where: str) -> None:
    """Raise CheckpointError, naming every difference, unless a run of ``before`` can resume as ``wanted``."""
    if changed := _changes(before, wanted, FREE_TO_CHANGE):
        raise CheckpointError(
            f"{where}: started with other settings ({changed}); resume with those, or start a new folder; only "
            f"{', '.join(sorted(FREE_TO_CHANGE))} may change"
        )


def require_landmark_style(model: ModelConfig, where: str) -> None:
    """Raise CheckpointError unless this release draws landmarks in the model's style."""
    if model.landmark_style != STYLE_VERSION:
        raise CheckpointError(
            f"{where}: landmark_style {model.landmark_style}, this release draws {STYLE_VERSION}; use the release that "
            "made it, or train again"
        )


def preset_text(preset: PresetConfig) -> str:
    """Return the YAML of a preset with every value; ``load_preset`` of that file gives an equal preset."""
    return yaml.safe_dump(preset.model_dump(), sort_keys=False)


def _read(name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    if name in seen:
        raise ConfigError(f"preset {name}: extends itself through {' -> '.join(seen)}; remove one `extends`")
    path = PRESETS / f"{name}.yaml" if name in preset_names() else Path(name)
    if not path.exists():
        raise ConfigError(f"preset {name}: no such name or file; presets are {', '.join(preset_names())}")
    data = read_yaml(path, f"preset {name}", ConfigError)
    parent = data.pop("extends", None)
    return data if parent is None else _merged(_read(str(parent), (*seen, name)), data)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(dict(below))
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result


def _changes(before: BaseConfig, wanted: BaseConfig, ignored: Collection[str] = ()) -> str:
    then, now = (dict(_leaves(config.model_dump())) for config in (before, wanted))
    changed = [key for key in then if then[key] != now[key] and key not in ignored]
    return "; ".join(f"{key}: {then[key]} there, {now[key]} requested" for key in changed)


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
