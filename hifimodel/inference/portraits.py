"""Generation with a trained model: options, the reader of photos, and the call of the pipeline.

Shared by ``hifimodel.generate`` and ``hifimodel.evaluation.generator``. The options do not need torch; loading models does.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hifidata.core.errors import WeightsError
from hifidata.models import registry
from hifimodel.errors import ConfigError, one_line
from hifimodel.landmarks import BACKENDS, load_backend

if TYPE_CHECKING:
    from hifimodel.config import ModelConfig
    from hifimodel.faces.photo import Preparation
    from hifimodel.inference.conditions import PhotoReader, PortraitCondition
    from hifimodel.inference.pipeline import HiFiPortraitPipeline, PortraitOutput

NO_MATTING = "none"
MAX_STEPS = 1000
QUALITY_MODEL = "iso29794"
"""S_q of Eq. 9; the files of the paper's ModelScope FQA may not be redistributed."""


@dataclass(frozen=True)
class MakerOptions:
    """The options of generation, except photos and prompts; ``add_options`` documents each field."""

    model: Path
    base: str | None
    lora: str | None
    negative_prompt: str | None
    steps: int
    guidance: float
    scale: float
    size: int | None
    detector: str
    landmarks: str | None
    landmarks_weights: Path | None
    embedder: Path | None
    matting: str | None
    safety_checker: Path | None
    no_safety_check: bool
    device: str | None
    offload: bool

    def __post_init__(self) -> None:
        """Raise ConfigError if a number is out of range."""
        for name, number in (("guidance", self.guidance), ("scale", self.scale)):
            if not math.isfinite(number):
                raise ConfigError(f"--{name}: {number} is not finite; see --help for the usual value")
        if self.steps > MAX_STEPS:
            raise ConfigError(f"--steps: {self.steps}, SDXL's noise schedule has {MAX_STEPS}; about 30 is usual")

    @classmethod
    def of(cls, args: argparse.Namespace) -> MakerOptions:
        """Return the options from the arguments of a parser with ``add_options``."""
        return cls(**{field.name: getattr(args, field.name) for field in fields(cls)})

    @cached_property
    def choices(self) -> ModelConfig:
        """The choices of the model. Raises CheckpointError if there is none."""
        from hifimodel.nets.checkpoint import checkpoint_choices

        return checkpoint_choices(self.model)

    @property
    def size_px(self) -> int:
        """Side of the portraits."""
        return self.size or self.choices.image_px


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``MakerOptions`` to a command line."""
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="training run, its model/, or a saved pipeline")
    add("--base", metavar="DIR|NAME", help="SDXL model in diffusers' layout; not for the tiny preset")
    add("--lora", metavar="FILE|NAME", help="LoRA for the base, for example SDXL-Lightning's (needs peft)")
    add("--negative-prompt", metavar="TEXT", help="used with --guidance above 1")
    add("--steps", type=at_least(1), default=8, help="8 for SDXL-Lightning (default), about 30 for ordinary SDXL")
    add("--guidance", type=float, default=0.0, help="0 for SDXL-Lightning (default), about 5 for ordinary SDXL")
    add("--scale", type=float, default=1.0, help="strength of identity and landmarks (default 1)")
    add("--size", type=at_least(64), metavar="PX", help="side of the portrait; default: as in training")
    add("--detector", default="dlib_hog", metavar="NAME", help="face detector of hifidata (default dlib_hog)")
    add("--landmarks", choices=sorted(BACKENDS), help="landmark backend; default: as in training")
    add(
        "--landmarks-weights", type=Path, metavar="DIR", help="files of the backend; default: hifidata's weight folders"
    )
    add(
        "--embedder",
        type=Path,
        metavar="FILE",
        help="file of the identity embedder; default: hifidata's weight folders",
    )
    add(
        "--matting",
        nargs="?",
        const="selfie",
        metavar="NAME",
        help=f"matting model for the references, or {NO_MATTING}; default: as in training",
    )
    add("--safety-checker", type=Path, metavar="DIR", help="copy of Stable Diffusion's safety checker")
    add("--no-safety-check", "--unsafe", action="store_true", help="do not check portraits for nudity")
    add("--device", metavar="NAME", help="default: cuda if available, else cpu")
    add("--offload", action="store_true", help="keep only the running part on the GPU; slower, for small GPUs")


def at_least(lowest: int) -> Callable[[str], int]:
    """Return the argparse type of whole numbers from ``lowest``."""

    def number(text: str) -> int:
        if int(text) < lowest:
            raise argparse.ArgumentTypeError(f"{text} is below {lowest}")
        return int(text)

    return number


def quiet_libraries() -> None:
    """Silence the libraries, which print notes about optional packages and progress bars while loading."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity(logging.CRITICAL)  # their errors are also raised, and printed as one line
        library.disable_progress_bar()


def find_device(name: str | None) -> str:
    """Return the name of a usable device; None selects a GPU if available. Raises ConfigError for an unusable device."""
    import torch

    if not name:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).cpu()  # a test that works for every kind of device
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = one_line(error, 120)
        raise ConfigError(f"--device {name}: cannot be used here ({reason}); try cuda, cuda:1 or cpu") from error
    return name


def load_reader(options: MakerOptions) -> PhotoReader:
    """Load the reader of photos, with the models of the training. Raises HifiError if one is missing."""
    from hifimodel.faces.recogniser import load_identity_embedder
    from hifimodel.inference.conditions import PhotoReader

    choices = options.choices
    return PhotoReader(
        registry.load("detect", options.detector),
        load_identity_embedder(choices.embedder, choices.embedder_dim, options.embedder),
        registry.load("quality", QUALITY_MODEL),
        load_backend(options.landmarks or choices.landmarks, options.landmarks_weights),
        _preparation(options),
    )


def load_pipeline(options: MakerOptions) -> HiFiPortraitPipeline:
    """Load the pipeline on its device. Raises HifiError if a part is missing or does not match."""
    import torch

    from hifimodel.inference.pipeline import HiFiPortraitPipeline
    from hifimodel.inference.safety import find_safety_check
    from hifimodel.nets.checkpoint import checkpoint_choices

    checkpoint_choices(options.model)  # gives a clearer error than loading the parts
    device = find_device(options.device)
    check = None if options.no_safety_check else find_safety_check(options.safety_checker)
    pipeline = HiFiPortraitPipeline.from_trained(options.model, options.base)
    pipeline.requires_safety_check = not options.no_safety_check
    pipeline.safety_check = check
    if options.lora is not None:
        _load_lora(pipeline, options.lora)
    pipeline.to(dtype=torch.bfloat16 if device.startswith("cuda") else torch.float32)
    if options.offload:
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)
    pipeline.set_progress_bar_config(disable=not sys.stderr.isatty())
    return pipeline


def make_portraits(
    pipeline: HiFiPortraitPipeline,
    options: MakerOptions,
    prompt: str,
    condition: PortraitCondition | None,
    seeds: Sequence[int],
) -> PortraitOutput:
    """Generate one portrait per seed; each is independent of the others.

    Args:
        pipeline: of ``load_pipeline``.
        options: of the pipeline.
        prompt: "" for none.
        condition: of ``load_reader``, for portraits of ``options.size_px``; None: the base model only.
        seeds: of the noise.
    """
    import torch

    output = pipeline(
        prompt,
        condition,
        negative_prompt=options.negative_prompt,
        height=options.size_px,
        width=options.size_px,
        num_inference_steps=options.steps,
        guidance_scale=options.guidance,
        controlnet_conditioning_scale=options.scale,
        num_images_per_prompt=len(seeds),
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
    )
    return cast("PortraitOutput", output)  # a tuple only with `return_dict=False`


def _preparation(options: MakerOptions) -> Preparation:
    from hifimodel.data.sample import UNNAMED
    from hifimodel.faces.clip_crop import ClipView
    from hifimodel.faces.photo import Preparation
    from hifimodel.nets.loading import face_encoder_px, find_model

    choices = options.choices
    view = ClipView(face_encoder_px(choices, find_model(options.model) / "face_vision"))
    matting = options.matting or choices.matting
    if matting in (None, NO_MATTING):
        return Preparation(view=view)
    if matting == UNNAMED:
        raise ConfigError(
            f"--model {options.model}: trained on references without background, by a matting model that the shards did not "
            f"name; name it with --matting, or pass --matting {NO_MATTING}"
        )
    matter = registry.load("matting", matting)
    return Preparation(lambda rgb_u8: matter.matte([rgb_u8])[0], view)


def _load_lora(pipeline: HiFiPortraitPipeline, lora: str) -> None:
    if importlib.util.find_spec("peft") is None:
        raise WeightsError(f"--lora {lora}: LoRA needs the package peft; run `pip install peft`")
    try:
        pipeline.load_lora_weights(lora)
    except (OSError, ValueError) as error:
        reason = one_line(error)
        raise WeightsError(f"--lora {lora}: cannot be loaded ({reason}); name a LoRA for SDXL") from error
    pipeline.fuse_lora()  # no extra cost per step
    pipeline.unload_lora_weights()
