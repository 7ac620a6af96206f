"""``python -m hifimodel.generate``: portraits of a person, with the expression and head pose of another photo.

    python -m hifimodel.generate --model runs/demo --reference a.jpg b.jpg c.jpg --target t.jpg \\
        --prompt "a portrait, in a garden" --out out.png

Photos are looked at before any large model is loaded, so that a photo without a face is told within seconds. The portraits'
paths go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 a wrong input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from hifidata import backends
from hifidata.errors import HifiError
from hifimodel.errors import ConfigError, ModelPackageError, WeightsError
from hifimodel.landmarks import BACKENDS, load_backend

if TYPE_CHECKING:
    from hifimodel.conditions import PhotoReader, PortraitCondition
    from hifimodel.config import ModelConfig
    from hifimodel.pipeline import HiFiPortraitPipeline
    from hifimodel.references import Preparation

INTERRUPTED = 130
QUALITY_MODEL = "iso29794"
"""S_q of Eq. 9; the paper's ModelScope FQA has no files that may be passed on."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = _parser().parse_args(argv)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        for path in generate(args):
            print(path)
    except (ModelPackageError, HifiError) as error:
        print(f"hifimodel.generate: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def generate(args: argparse.Namespace) -> list[Path]:
    """Writes the portraits that the command line asks for; see ``_parser`` for its options.

    Returns:
        ``--out`` for one portrait, ``out-1.png``, ``out-2.png``, ... beside it for more.

    Raises:
        ModelPackageError, HifiError: one line with what is wrong.
    """
    _require_inputs(args)
    _quiet_libraries()
    import torch

    from hifimodel.checkpoint import checkpoint_choices

    choices = checkpoint_choices(args.model)
    size_px = args.size or choices.image_px
    condition = _condition(args, choices, size_px)
    pipeline = _pipeline(args)
    # One generator per picture: its portrait is the same whatever --num is.
    generators = [torch.Generator().manual_seed(args.seed + number) for number in range(args.num)]
    output = pipeline(
        args.prompt,
        condition,
        negative_prompt=args.negative_prompt,
        height=size_px,
        width=size_px,
        num_inference_steps=args.steps,
        guidance_scale=args.guidance,
        controlnet_conditioning_scale=args.scale,
        num_images_per_prompt=args.num,
        generator=generators,
    )
    if condition is not None and condition.landmarks_u8 is not None and args.landmarks_out is not None:
        _save(Image.fromarray(condition.landmarks_u8.permute(1, 2, 0).numpy()), args.landmarks_out)
    paths = [args.out] if args.num == 1 else [_numbered(args.out, number + 1) for number in range(args.num)]
    flagged = output.nsfw_content_detected or [False] * len(paths)
    for picture, path, is_flagged in zip(output.images, paths, flagged, strict=True):
        _save(picture, path)
        if is_flagged:
            print(f"{path}: black, because the safety check flagged it; try another prompt or seed", file=sys.stderr)
    return paths


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hifimodel.generate", description="Portraits of a person after 1 to 6 photos."
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="a training run, its model/, or a saved pipeline")
    add("--base", metavar="DIR|NAME", help="SDXL model in diffusers' layout; the tiny preset takes none")
    add("--lora", metavar="FILE|NAME", help="LoRA for the base, for example SDXL-Lightning's (needs peft)")
    add("--reference", type=Path, nargs="+", default=[], metavar="PHOTO", help="1 to 6 photos of the person")
    add("--no-references", action="store_true", help="no photos of a person: landmarks alone")
    add("--target", type=Path, metavar="PHOTO", help="whose expression and head pose to take")
    add("--no-landmarks", action="store_true", help="leave expression and pose to the prompt")
    add("--prompt", required=True, help='"" for none')
    add("--negative-prompt", metavar="TEXT", help="with --guidance above 1")
    add("--out", type=Path, required=True, metavar="FILE", help=".png, .jpg or another picture format")
    add("--num", type=_at_least(1), default=1, metavar="N", help="portraits, with seeds from --seed on")
    add("--seed", type=int, default=0)
    add("--steps", type=_at_least(1), default=8, help="8 for SDXL-Lightning (default), about 30 for ordinary SDXL")
    add("--guidance", type=float, default=0.0, help="0 for SDXL-Lightning (default), about 5 for ordinary SDXL")
    add("--scale", type=float, default=1.0, help="strength of the person's likeness and landmarks (default 1)")
    add("--size", type=_at_least(64), metavar="PX", help="side of the portrait; default: the training's")
    add("--detector", default="dlib_hog", metavar="NAME", help="a face detector of hifidata (default dlib_hog)")
    add("--landmarks", choices=sorted(BACKENDS), help="landmark generator; default: the training's, else points")
    add("--landmarks-weights", type=Path, metavar="DIR", help="its files; default: hifidata's weight folders")
    add("--landmarks-out", type=Path, metavar="FILE", help="also save the landmark picture")
    add(
        "--embedder", type=Path, metavar="FILE", help="the identity embedder's file; default: hifidata's weight folders"
    )
    add("--matting", action="store_true", help="remove the references' backgrounds, as in training on matted shards")
    add("--safety-checker", type=Path, metavar="DIR", help="a copy of Stable Diffusion's safety checker")
    add("--no-safety-check", "--unsafe", action="store_true", help="do not check portraits for nudity")
    add("--device", metavar="NAME", help="default: cuda where there is one, else cpu")
    add("--offload", action="store_true", help="keep on the GPU only what runs; slower, for small cards")
    return parser


def _at_least(lowest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < lowest:
            raise argparse.ArgumentTypeError(f"{text} is below {lowest}")
        return int(text)

    return number


def _require_inputs(args: argparse.Namespace) -> None:
    from hifimodel.conditions import MAX_REFERENCES

    if bool(args.reference) == args.no_references:
        given = "both given" if args.reference else "no reference"
        raise ConfigError(f"--reference: {given}; name 1 to {MAX_REFERENCES} photos, or say --no-references")
    if (args.target is not None) == args.no_landmarks:
        given = "both given" if args.no_landmarks else "no target"
        raise ConfigError(f"--target: {given}; name a photo, or say --no-landmarks")
    for path in (args.out, args.landmarks_out):
        if path is not None and path.suffix.lower() not in Image.registered_extensions():
            raise ConfigError(f"{path}: unknown picture format {path.suffix!r}; end the name in .png or .jpg")


def _quiet_libraries() -> None:
    """Without this, importing and loading write pages about optional packages and progress bars of a millisecond."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def _condition(args: argparse.Namespace, choices: ModelConfig, size_px: int) -> PortraitCondition | None:
    if args.no_references and args.no_landmarks:
        return None
    return _reader(args, choices).read(args.reference, args.target, size_px)


def _matted() -> Preparation:
    from hifimodel.references import Preparation

    matter = backends.load("matting", "selfie")
    return Preparation(alpha=lambda rgb_u8: matter.matte([rgb_u8])[0])


def _reader(args: argparse.Namespace, choices: ModelConfig) -> PhotoReader:
    from hifimodel.checkpoint import trained_landmarks
    from hifimodel.conditions import PhotoReader
    from hifimodel.identity import load_identity
    from hifimodel.references import Preparation

    return PhotoReader(
        backends.load("detect", args.detector),
        load_identity(choices.embedder, choices.embedder_dim, args.embedder),
        backends.load("quality", QUALITY_MODEL),
        load_backend(args.landmarks or trained_landmarks(args.model) or "points", args.landmarks_weights),
        _matted() if args.matting else Preparation(),
    )


def _pipeline(args: argparse.Namespace) -> HiFiPortraitPipeline:
    import torch

    from hifimodel.pipeline import HiFiPortraitPipeline
    from hifimodel.safety import find_safety_check

    check = None if args.no_safety_check else find_safety_check(args.safety_checker)
    pipeline = HiFiPortraitPipeline.from_trained(args.model, args.base)
    pipeline.requires_safety_check = not args.no_safety_check
    pipeline.safety_check = check
    if args.lora is not None:
        _load_lora(pipeline, args.lora)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    pipeline.to(dtype=torch.bfloat16 if device.startswith("cuda") else torch.float32)
    if args.offload:
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)
    pipeline.set_progress_bar_config(disable=not sys.stderr.isatty())
    return pipeline


def _load_lora(pipeline: HiFiPortraitPipeline, lora: str) -> None:
    if importlib.util.find_spec("peft") is None:
        raise WeightsError(f"--lora {lora}: LoRA needs the package peft; run `pip install peft`")
    try:
        pipeline.load_lora_weights(lora)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"--lora {lora}: cannot be loaded ({reason}); name a LoRA for SDXL") from error
    pipeline.fuse_lora()  # the UNet then costs what it cost before
    pipeline.unload_lora_weights()


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _save(picture: Image.Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error


if __name__ == "__main__":
    sys.exit(main())
