"""A tiny pipeline whose HiFi-Net has something to say, and made-up people for it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hifimodel.inference.conditions import PortraitCondition
from hifimodel.inference.pipeline import HiFiPortraitPipeline
from hifimodel.nets.loading import Modules

SIZE_PX = 64
STEPS = 2


def speaking(modules: Modules) -> Modules:
    """A copy whose output convolutions are not zero, as after training; random, so pictures mean nothing."""
    changed = replace(modules, hifinet=copy.deepcopy(modules.hifinet), refiner=copy.deepcopy(modules.refiner))
    chance = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in changed.hifinet.named_parameters():
            if name.startswith("controlnet_"):
                parameter.add_(torch.randn(parameter.shape, generator=chance) * 0.1)
    return changed


def quiet(pipeline: HiFiPortraitPipeline) -> HiFiPortraitPipeline:
    """Without progress bar, and without a line about the missing safety check."""
    pipeline.set_progress_bar_config(disable=True)
    pipeline.requires_safety_check = False
    return pipeline


def person(seed: int, n_references: int = 2, embedding_dim: int = 64, landmarks: bool = True) -> PortraitCondition:
    """Random references and a random landmark picture."""
    chance = torch.Generator().manual_seed(seed)
    crops = torch.randint(0, 256, (n_references, 3, 32, 32), generator=chance, dtype=torch.uint8)
    vectors = functional.normalize(torch.randn(n_references, embedding_dim, generator=chance), dim=-1)
    drawn = torch.zeros(3, SIZE_PX, SIZE_PX, dtype=torch.uint8)
    drawn[:, 20:40, 20:40] = torch.randint(0, 256, (3, 20, 20), generator=chance, dtype=torch.uint8)
    return PortraitCondition(crops, vectors, drawn if landmarks else None)


def seeded(*seeds: int) -> list[torch.Generator]:
    """One generator per picture."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def pictures(pipeline: HiFiPortraitPipeline, prompt: str | list[str], *args: Any, **options: Any) -> Tensor:
    """(B, 3, 64, 64) float, undecoded latents left aside: two steps unless told otherwise."""
    settings = {"height": SIZE_PX, "width": SIZE_PX, "num_inference_steps": STEPS, "output_type": "pt"} | options
    return pipeline(prompt, *args, **settings).images
