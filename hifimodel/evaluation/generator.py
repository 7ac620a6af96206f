"""HiFi-Portrait as a generator of evaluation images: ``hifimodel.generate`` with one load of the model."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hifidata.models.protocols import RgbU8
from hifimodel.errors import ConditionError
from hifimodel.evaluation.runner import Generate, Request
from hifimodel.inference.portraits import (
    MakerOptions,
    add_options,
    load_pipeline,
    load_reader,
    make_portraits,
    quiet_libraries,
)

if TYPE_CHECKING:
    from hifimodel.inference.conditions import PhotoReader, PortraitCondition
    from hifimodel.inference.pipeline import HiFiPortraitPipeline

BLOCK_BYTES = 2**22
PARTS = ("refiner", "hifinet")


def load(model: str, options: Sequence[str] = ()) -> Generate:
    """Load a trained model.

    Args:
        model: as ``--model`` of ``hifimodel.generate``.
        options: further options of ``hifimodel.generate``, such as ``--base``, ``--lora``, ``--steps``, ``--guidance``. Photos,
            prompt and seed are in each request.

    Returns:
        A function that generates an image. It raises ConditionError if the safety check flags the image.

    Raises:
        HifiError: a file is missing, or the parts do not match.

    Source: paper section 4.1: all four references, and the landmarks of the target.
    """
    parser = argparse.ArgumentParser(prog="python -m hifimodel.evaluate run ... --")
    add_options(parser)
    how = MakerOptions.of(parser.parse_args(["--model", model, *options]))
    quiet_libraries()
    return _Generator(how, load_reader(how), load_pipeline(how))


class _Generator:
    """A loaded model; the photos of an identity are read once.

    Attributes:
        digest: of the weights, see ``_digest``.
    """

    def __init__(self, how: MakerOptions, reader: PhotoReader, pipeline: HiFiPortraitPipeline) -> None:
        self._how, self._reader, self._pipeline = how, reader, pipeline
        self._conditions: dict[Path, PortraitCondition] = {}
        self.digest = _digest(how, pipeline)

    def __call__(self, request: Request) -> RgbU8:
        """Generate a portrait (size_px, size_px, 3) uint8. Raises ConditionError if the safety check flags it."""
        if request.target not in self._conditions:
            read = self._reader.read(request.references, request.target, self._how.size_px)
            self._conditions[request.target] = read
        condition = self._conditions[request.target]
        output = make_portraits(self._pipeline, self._how, request.prompt, condition, [request.seed])
        if output.nsfw_content_detected and output.nsfw_content_detected[0]:
            raise ConditionError("the safety check flagged the image; see `python -m hifimodel.generate --help`")
        return np.asarray(output.images[0].convert("RGB"), np.uint8)


def _digest(how: MakerOptions, pipeline: HiFiPortraitPipeline) -> str:
    """Return the hex sha256 of the files of the trained networks and of a LoRA, and of a few layers of the base.

    Hashing the whole base would take too long. The layers are rounded to bfloat16, so that a GPU and a CPU, which compute in
    different types, give the same digest.
    """
    import torch

    from hifimodel.nets.loading import Base, find_model
    from hifimodel.training.checkpoint import outermost

    digest = hashlib.sha256()
    folder = find_model(how.model)
    files = sorted(path for part in PARTS for path in (folder / part).iterdir() if path.is_file())
    if how.lora is not None and Path(how.lora).is_file():
        files.append(Path(how.lora))
    for path in files:
        digest.update(f"{path.parent.name}/{path.name} {path.stat().st_size}\n".encode())
        with open(path, "rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    parts = {field.name: getattr(pipeline, field.name) for field in fields(Base)}
    for layer in outermost(Base(**parts)):
        digest.update(layer.detach().to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
    return digest.hexdigest()
