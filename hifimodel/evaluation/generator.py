"""HiFi-Portrait as a generator of evaluation pictures: what ``hifimodel.generate`` does, with the model loaded once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hifidata.backends.base import RgbU8
from hifimodel.errors import ConditionError
from hifimodel.evaluation.runner import Generate, Request
from hifimodel.portrait_maker import (
    MakerOptions,
    add_options,
    load_pipeline,
    load_reader,
    make_portraits,
    quiet_libraries,
)

if TYPE_CHECKING:
    from hifimodel.conditions import PortraitCondition


def load(model: str, options: Sequence[str] = ()) -> Generate:
    """Loads a trained model.

    Args:
        model: what ``hifimodel.generate --model`` takes.
        options: more of its options, such as ``--base``, ``--lora``, ``--steps``, ``--guidance``; the photos, the prompt and
            the seed come with each request.

    Returns:
        A function that makes a picture, and raises ConditionError where the safety check blackened it.

    Raises:
        ModelPackageError, HifiError: a file is missing, or the parts do not fit.

    Source: paper section 4.1: all four references, and the landmarks of the target.
    """
    parser = argparse.ArgumentParser(prog="python -m hifimodel.evaluate run ... --")
    add_options(parser)
    how = MakerOptions.of(parser.parse_args(["--model", model, *options]))
    quiet_libraries()
    reader, pipeline = load_reader(how), load_pipeline(how)
    conditions: dict[Path, PortraitCondition] = {}

    def generate(request: Request) -> RgbU8:
        """One portrait, (size_px, size_px, 3) uint8; a person's photos are read once."""
        if request.target not in conditions:
            conditions[request.target] = reader.read(request.references, request.target, how.size_px)
        output = make_portraits(pipeline, how, request.prompt, conditions[request.target], [request.seed])
        if output.nsfw_content_detected and output.nsfw_content_detected[0]:
            raise ConditionError("the safety check flagged the picture; see `python -m hifimodel.generate --help`")
        return np.asarray(output.images[0].convert("RGB"), np.uint8)

    return generate
