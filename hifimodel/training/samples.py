"""What a run shows of itself: a fixed probe of its loss, and a grid of generated images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hifimodel.data import Batch
from hifimodel.losses.denoising import denoising_target
from hifimodel.training.draws import DrawSettings, draw
from hifimodel.training.frozen import PreparedBatch
from hifimodel.training.step import Step

N_PROBES = 8
"""Noise levels of the probe, in the middles of as many equal parts of the schedule."""
GAP_PX = 4


@dataclass(frozen=True)
class FixedSamples:
    """The samples that grid and probe always use: the first of the training stream.

    Attributes:
        batch: as loaded.
        prepared: through the frozen encoders.
    """

    batch: Batch
    prepared: PreparedBatch


@torch.no_grad()
def probe(step: Step, nets: nn.Module, fixed: FixedSamples, settings: DrawSettings) -> float:
    """Noise MSE (Eq. 6) on the fixed samples, with noise and timesteps that never change.

    The training loss of a step says more about the timesteps that were drawn than about the model; this number compares.
    """
    prepared, scheduler, device = fixed.prepared, step.frozen.base.scheduler, step.frozen.device
    nobody = torch.zeros(len(prepared.keys), dtype=torch.bool, device=device)
    total = torch.zeros((), device=device)
    for number in range(N_PROBES):
        noise = draw(prepared.keys, -1 - number, settings).noise.to(device)
        level = int((number + 0.5) * settings.n_timesteps / N_PROBES)
        timesteps = torch.full((len(noise),), level, device=device)
        noisy = scheduler.add_noise(prepared.latents, noise, timesteps)
        prediction = step.predict(nets, prepared, noisy, timesteps, nobody)
        target = denoising_target(scheduler, prepared.latents, noise, timesteps)
        total += functional.mse_loss(prediction.float(), target)
    return float(total) / N_PROBES


@torch.no_grad()
def generate(step: Step, nets: nn.Module, prepared: PreparedBatch, n_steps: int, settings: DrawSettings) -> Tensor:
    """Images (B, 3, S, S) uint8 from noise, by DDIM without guidance.

    Source: section 3.3, inference; trailing timesteps as SDXL-Lightning asks for. Guidance is left out: the grid shows what was
    trained.
    """
    base, device = step.frozen.base, step.frozen.device
    scheduler = DDIMScheduler.from_config(base.scheduler.config, timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(n_steps, device=device)
    noise = draw(prepared.keys, -1, settings).noise.to(device)
    latents = noise * scheduler.init_noise_sigma  # (B, 4, h, w)
    nobody = torch.zeros(len(noise), dtype=torch.bool, device=device)
    for timestep in scheduler.timesteps:
        prediction = step.predict(nets, prepared, latents, timestep.expand(len(noise)), nobody)
        latents = scheduler.step(prediction.float(), timestep, latents, return_dict=False)[0]
    scaled = (latents / base.vae.config["scaling_factor"]).to(base.vae.dtype)
    decoded = torch.cat(
        [base.vae.decode(one[None]).sample for one in scaled]
    )  # one by one: a grid may not fill the GPU
    return (decoded.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def write_grid(path: Path, batch: Batch, generated: Tensor) -> None:
    """A PNG with a row per sample: its first reference, the landmark image, the target, and what was generated.

    Args:
        path: the file.
        batch: B samples, on the CPU.
        generated: (B, 3, S, S) uint8.
    """
    side_px = batch.pixels_u8.shape[1]
    starts = np.cumsum([0, *batch.counts[:-1]])
    rows = []
    for place, start in enumerate(starts):
        reference = batch.reference_faces[start].permute(1, 2, 0).numpy()
        cells = [
            cv2.resize(reference, (side_px, side_px), interpolation=cv2.INTER_LINEAR),
            batch.landmarks_u8[place].numpy(),
            batch.pixels_u8[place].numpy(),
            generated[place].permute(1, 2, 0).numpy(),
        ]
        rows.append(_joined(cells, axis=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", _joined(rows, axis=0)[..., ::-1])[1]
    path.write_bytes(encoded.tobytes())


def _joined(images: list[NDArray[np.uint8]], axis: int) -> NDArray[np.uint8]:
    shape = list(images[0].shape)
    shape[axis] = GAP_PX
    gap = np.full(shape, 255, np.uint8)
    parts = [part for image in images for part in (gap, image)][1:]
    return np.concatenate(parts, axis=axis)
