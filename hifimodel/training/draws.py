"""The random draws of a step: a function of the seed, the step and the sample only.

A resume needs no random state, and a sample gets the same noise on any process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """The draws of a batch, on the CPU.

    Attributes:
        timesteps: (B,) int64.
        noise: (B, 4, h, w) float32.
        faces_dropped: (B,) bool, samples that are trained without faces.
    """

    timesteps: Tensor
    noise: Tensor
    faces_dropped: Tensor


@dataclass(frozen=True)
class DrawSettings:
    """Settings of the draws.

    Attributes:
        seed: of the run.
        latent_side: side of the latents.
        n_timesteps: of the schedule; drawn uniformly.
        face_drop_rate: share of samples without faces.
    """

    seed: int
    latent_side: int
    n_timesteps: int
    face_drop_rate: float


def draw(keys: Sequence[str], step: int, settings: DrawSettings) -> Draws:
    """Return the draws of the samples ``keys`` in one step."""
    timesteps, noises, dropped = [], [], []
    for key in keys:
        name = f"{settings.seed} {step} {key}".encode()
        seed = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") >> 1
        generator = torch.Generator().manual_seed(seed)
        timesteps.append(torch.randint(settings.n_timesteps, (1,), generator=generator))
        dropped.append(torch.rand(1, generator=generator) < settings.face_drop_rate)
        noises.append(torch.randn(4, settings.latent_side, settings.latent_side, generator=generator))
    return Draws(torch.cat(timesteps), torch.stack(noises), torch.cat(dropped))
