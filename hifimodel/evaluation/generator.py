"""HiFi-Portrait as a generator of evaluation pictures: ``hifimodel.generate``, with the model loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hifidata.backends.base import RgbU8
from hifimodel.errors import ConditionError
from hifimodel.evaluation.runner import Generate, Request


def load(model: str, options: Sequence[str] = ()) -> Generate:
    """Loads a trained model.

    Args:
        model: what ``hifimodel.generate --model`` takes.
        options: more of its options, such as ``--base``, ``--lora``, ``--steps``, ``--guidance``.

    Returns:
        A function that makes a picture, and raises ConditionError where the safety check blackened it.

    Raises:
        ModelPackageError, HifiError: a file is missing, or the parts do not fit.

    Source: paper section 4.1: all four references, and the landmarks of the target.
    """
    import torch

    from hifimodel import generate as command
    from hifimodel.checkpoint import checkpoint_choices
    from hifimodel.conditions import PortraitCondition

    # The photos, prompt and seed come with each request; these only fill the command's places.
    places = ["--reference", "r", "--target", "t", "--prompt", "", "--out", "o.png"]
    args = command._parser().parse_args(["--model", model, *places, *options])
    command._quiet_libraries()
    choices = checkpoint_choices(args.model)
    size_px = args.size or choices.image_px
    reader, pipeline = command._reader(args, choices), command._pipeline(args)
    conditions: dict[Path, PortraitCondition] = {}

    def generate(request: Request) -> RgbU8:
        """One portrait, (size_px, size_px, 3) uint8; a person's photos are read once."""
        if request.target not in conditions:
            conditions[request.target] = reader.read(request.references, request.target, size_px)
        output = pipeline(
            request.prompt,
            conditions[request.target],
            negative_prompt=args.negative_prompt,
            height=size_px,
            width=size_px,
            num_inference_steps=args.steps,
            guidance_scale=args.guidance,
            controlnet_conditioning_scale=args.scale,
            generator=torch.Generator().manual_seed(request.seed),
        )
        if output.nsfw_content_detected and output.nsfw_content_detected[0]:
            raise ConditionError("the safety check flagged the picture; see `python -m hifimodel.generate --help`")
        return np.asarray(output.images[0].convert("RGB"), np.uint8)

    return generate
