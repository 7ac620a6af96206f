"""Builds and loads the model: frozen base, frozen encoders, and the two trained networks."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModel

from hifidata.core.errors import WeightsError
from hifimodel.config import ModelConfig, require_landmark_style
from hifimodel.errors import one_line
from hifimodel.nets import architectures
from hifimodel.nets.face_encoder import FaceEncoder
from hifimodel.nets.face_refiner import FaceRefiner
from hifimodel.nets.hifinet import HiFiNet
from hifimodel.nets.state import STATE_FILE, read_state, require_unaltered


class Pretrained(Protocol):
    """The common interface of models, tokenizers and schedulers of the libraries."""

    @classmethod
    def from_pretrained(cls, source: str, /, *args: Any, **kwargs: Any) -> Any:
        """Load from a folder or by Hub name."""


PretrainedPart = TypeVar("PretrainedPart", bound=Pretrained)
Net = TypeVar("Net", bound=nn.Module)

LOAD_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    EOFError,
    SafetensorError,
    StrictDataclassError,
    pickle.UnpicklingError,
)
"""Errors of ``from_pretrained`` for damaged folders: the libraries pass file contents to constructors unchecked."""
PIPELINE_INDEX = "model_index.json"
RANDOM = "random"
"""A base of SDXL's shapes with random weights, for counting and timing."""


@dataclass(frozen=True)
class Base:
    """The frozen text-to-image model; all parts in eval mode and without gradients."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    tokenizer: CLIPTokenizer
    tokenizer_2: CLIPTokenizer
    text_encoder: CLIPTextModel
    text_encoder_2: CLIPTextModelWithProjection
    scheduler: DDPMScheduler


@dataclass(frozen=True)
class Modules:
    """The parts of a training step or a pipeline, except the embedder of ``hifimodel.nets.embedder``."""

    base: Base
    face_encoder: FaceEncoder
    refiner: FaceRefiner
    hifinet: HiFiNet

    def trainable(self) -> list[nn.Parameter]:
        """Return the parameters of the refiner and HiFi-Net; the paper trains only these (section 3.3)."""
        return [*self.refiner.parameters(), *self.hifinet.parameters()]


def build_modules(model: ModelConfig, base: str | Path | None = None, seed: int = 0) -> Modules:
    """Make a new refiner and HiFi-Net over a frozen base.

    Args:
        model: the choices.
        base: folder or Hub name of an SDXL model in diffusers' layout; ``random`` for SDXL's shapes with random weights. The
            tiny architecture needs none.
        seed: of all random weights; the same seed gives the same modules.

    Raises:
        WeightsError: a base is needed and missing, or cannot be loaded.
        CheckpointError: this release draws another landmark style.
    """
    require_landmark_style(model, "model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        frozen = load_base(model, base)
        face_encoder = load_face_encoder(model, random_weights=str(base) == RANDOM)
        refiner = FaceRefiner.from_model_config(model, face_encoder.dim)
        hifinet = HiFiNet.from_unet(frozen.unet, model)
    return Modules(frozen, face_encoder, refiner, hifinet)


def load_trained(folder: str | Path, base: str | Path | None = None, seed: int = 0) -> Modules:
    """Load the modules of a trained model over ``base``.

    Args:
        folder: see ``find_model``.
        base: see ``build_modules``.
        seed: see ``build_modules``; training uses the default.

    Raises:
        WeightsError: a part is missing, altered or cannot be loaded.
        CheckpointError: it was trained with another landmark style.
    """
    folder = find_model(folder)
    _require_unaltered_nets(folder)
    refiner = _load(FaceRefiner, folder / "refiner", None)
    hifinet = _load(HiFiNet, folder / "hifinet", None)
    try:
        choices = hifinet.choices
    except ValueError as error:
        raise WeightsError(
            f"{folder}: hifinet/config.json is of another version ({one_line(error)}); copy it again"
        ) from error
    require_landmark_style(choices, str(folder))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        frozen = load_base(choices, base)
        face_encoder = load_face_encoder(choices, random_weights=str(base) == RANDOM)
    return Modules(frozen, face_encoder, refiner, hifinet)


def _require_unaltered_nets(folder: Path) -> None:
    """Raise WeightsError if a network differs from the sha256 in ``state.json``; a copy of the networks alone has none."""
    try:
        if (folder / STATE_FILE).exists():
            require_unaltered(folder, read_state(folder), lambda name: name.startswith(("refiner/", "hifinet/")))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{folder}: is damaged ({one_line(error)}); copy it again, or use another checkpoint"
        ) from error


def load_trained_nets(modules: Modules, folder: Path) -> None:
    """Load the weights of a folder of ``save_trained`` into ``modules``.

    Raises:
        WeightsError: a part is missing or cannot be loaded.
    """
    modules.refiner.load_state_dict(_load(FaceRefiner, folder / "refiner", None).state_dict())
    modules.hifinet.load_state_dict(_load(HiFiNet, folder / "hifinet", None).state_dict())


def load_saved(kind: type[PretrainedPart], folder: Path) -> PretrainedPart:
    """Load a diffusers pipeline that ``save_pretrained`` wrote.

    Raises:
        WeightsError: a part is missing or cannot be loaded.
    """
    try:
        index = json.loads((folder / PIPELINE_INDEX).read_text(encoding="utf-8"))
        parts = [name for name, kinds in index.items() if isinstance(kinds, list) and any(kinds)]
        if absent := [name for name in parts if not (folder / name).is_dir()]:
            raise FileNotFoundError(
                f"no {', '.join(absent)}"
            )  # the library would replace a missing tokenizer by an empty one
        saved: PretrainedPart = kind.from_pretrained(str(folder))
    except LOAD_ERRORS as error:
        raise WeightsError(
            f"{folder}: not a complete saved pipeline ({_reason(error)}); copy its whole folder, or save it again"
        ) from error
    return saved


def find_model(folder: str | Path) -> Path:
    """Return the folder with ``refiner/`` and ``hifinet/`` of a training run, its ``model/`` or a checkpoint.

    For a run, this is the finished model, unless a newer checkpoint exists; without a finished model, the newest checkpoint.
    """
    folder = Path(folder)
    finished, saved = folder / "model", sorted(folder.glob("checkpoints/step-*"), reverse=True)
    is_resumed = bool(saved) and _step_of(saved[0]) > _step_of(finished) >= 0
    candidates = [folder, *saved, finished] if is_resumed else [folder, finished, *saved]
    return next((path for path in candidates if (path / "hifinet").is_dir()), folder)


def _step_of(folder: Path) -> int:
    """Return the step of a checkpoint or model; -1 if unknown."""
    try:
        return read_state(folder).step
    except (OSError, ValueError):
        return -1


def save_trained(modules: Modules, folder: str | Path) -> None:
    """Write ``refiner/`` and ``hifinet/`` as safetensors with their configs."""
    modules.refiner.save_pretrained(Path(folder) / "refiner")
    modules.hifinet.save_pretrained(Path(folder) / "hifinet")


def load_base(model: ModelConfig, base: str | Path | None) -> Base:
    """Load the frozen base; see ``build_modules``."""
    if model.architecture == "tiny" and base is None:
        return _random_base("tiny")
    if base is None:
        raise WeightsError(
            "--base: none given, and this preset needs SDXL; name a folder or a Hub model, for example "
            "stabilityai/stable-diffusion-xl-base-1.0"
        )
    if str(base) == RANDOM:
        return _random_base(model.architecture)
    return Base(
        unet=_frozen(_load(UNet2DConditionModel, base, "unet")),
        vae=_frozen(_load(AutoencoderKL, base, "vae")),
        tokenizer=_load(CLIPTokenizer, base, "tokenizer"),
        tokenizer_2=_load(CLIPTokenizer, base, "tokenizer_2"),
        text_encoder=_frozen(_load(CLIPTextModel, base, "text_encoder")),
        text_encoder_2=_frozen(_load(CLIPTextModelWithProjection, base, "text_encoder_2")),
        scheduler=_load(DDPMScheduler, base, "scheduler"),
    )


def load_face_encoder(model: ModelConfig, random_weights: bool = False) -> FaceEncoder:
    """Load the CLIP vision tower of a config."""
    if model.image_encoder == "tiny-random":
        vision = CLIPVisionModel(architectures.vision_config("tiny"))
    elif random_weights:
        vision = CLIPVisionModel(architectures.vision_config("sdxl"))
    else:
        vision = _load(CLIPVisionModel, model.image_encoder, None)
    return FaceEncoder(vision, model.clip_layer)


def face_encoder_px(model: ModelConfig, saved: Path) -> int:
    """Return the input size of the CLIP tower without loading it.

    Args:
        model: names the tower.
        saved: folder of the tower in a saved pipeline; preferred if it exists.

    Raises:
        WeightsError: the config cannot be loaded, or the input is not square.
    """
    if model.image_encoder == "tiny-random":
        config = architectures.vision_config("tiny")
    else:
        config = _load(CLIPVisionConfig, saved if saved.is_dir() else model.image_encoder, None)
    if not isinstance(config.image_size, int):
        raise WeightsError(
            f"{model.image_encoder}: input of {config.image_size} px is not square; name another encoder"
        )
    return config.image_size


def _random_base(architecture: str) -> Base:
    return Base(
        unet=_frozen(architectures.random_unet(architecture)),
        vae=_frozen(architectures.random_vae(architecture)),
        tokenizer=architectures.byte_tokenizer(),
        tokenizer_2=architectures.byte_tokenizer(),
        text_encoder=_frozen(CLIPTextModel(architectures.text_config(architecture, second=False))),
        text_encoder_2=_frozen(CLIPTextModelWithProjection(architectures.text_config(architecture, second=True))),
        scheduler=DDPMScheduler(**architectures.SCHEDULER),
    )


def _frozen(module: Net) -> Net:
    return module.eval().requires_grad_(False)


def _load(kind: type[PretrainedPart], source: str | Path, subfolder: str | None) -> PretrainedPart:
    place = {} if subfolder is None else {"subfolder": subfolder}
    where = str(source) if subfolder is None else f"{source}, part {subfolder}"
    try:
        if issubclass(kind, nn.Module):  # the library would fill missing weights with random numbers
            part, report = kind.from_pretrained(str(source), **place, output_loading_info=True)
            require_all_weights(report)
        else:
            part = kind.from_pretrained(str(source), **place)
    except LOAD_ERRORS as error:
        raise WeightsError(
            f"{where}: cannot be loaded as {kind.__name__}: {_reason(error)}; check the name or folder"
        ) from error
    return cast(PretrainedPart, part)


def require_all_weights(report: Mapping[str, Any]) -> None:
    """Raise ValueError if ``from_pretrained`` found no weights for a part; ``report`` is its ``output_loading_info``."""
    absent = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if absent:
        raise ValueError(f"{len(absent)} weights are missing or have another shape, the first is {absent[0]}")


def _reason(error: Exception) -> str:
    text = one_line(error).rstrip(". ")
    return text if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: {text}"
