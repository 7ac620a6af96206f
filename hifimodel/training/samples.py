"""The samples of a run: a probe of the loss on fixed samples, and a grid of generated images."""

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
"""Noise levels of the probe: the middles of equal parts of the schedule."""
GAP_PX = 4


@dataclass(frozen=True)
class FixedSamples:
    """The fixed samples of grid and probe: the first of the training stream.

    Attributes:
        batch: of the loader.
        prepared: encoded by the frozen models.
    """

    batch: Batch
    prepared: PreparedBatch


@torch.no_grad()
def probe(step: Step, nets: nn.Module, fixed: FixedSamples, settings: DrawSettings) -> float:
    """Return the noise MSE (Eq. 6) on fixed samples, noise and timesteps.

    The training loss of a step depends more on its timesteps than on the model. This number is comparable between steps.
    """
    prepared, scheduler, device = fixed.prepared, step.frozen.base.scheduler, step.frozen.device
    no_drop = torch.zeros(len(prepared.keys), dtype=torch.bool, device=device)
    total = torch.zeros((), device=device)
    for number in range(N_PROBES):
        noise = draw(prepared.keys, -1 - number, settings).noise.to(device)
        level = int((number + 0.5) * settings.n_timesteps / N_PROBES)
        timesteps = torch.full((len(noise),), level, device=device)
        noisy = scheduler.add_noise(prepared.latents, noise, timesteps)
        prediction = step.predict(nets, prepared, noisy, timesteps, no_drop)
        target = denoising_target(scheduler, prepared.latents, noise, timesteps)
        total += functional.mse_loss(prediction.float(), target)
    return float(total) / N_PROBES


@torch.no_grad()
def generate(step: Step, nets: nn.Module, prepared: PreparedBatch, n_steps: int, settings: DrawSettings) -> Tensor:
    """Generate images (B, 3, S, S) uint8 from noise, by DDIM without guidance.

    Source: section 3.3, inference; trailing timesteps, as SDXL-Lightning needs. There is no guidance, so the grid shows the
    trained state.
    """
    base, device = step.frozen.base, step.frozen.device
    scheduler = DDIMScheduler.from_config(base.scheduler.config, timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(n_steps, device=device)
    noise = draw(prepared.keys, -1, settings).noise.to(device)
    latents = noise * scheduler.init_noise_sigma  # (B, 4, h, w)
    no_drop = torch.zeros(len(noise), dtype=torch.bool, device=device)
    for timestep in scheduler.timesteps:
        prediction = step.predict(nets, prepared, latents, timestep.expand(len(noise)), no_drop)
        latents = scheduler.step(prediction.float(), timestep, latents, return_dict=False)[0]
    scaled = (latents / base.vae.config["scaling_factor"]).to(base.vae.dtype)
    # one by one, to save GPU memory
    decoded = torch.cat([base.vae.decode(one[None]).sample for one in scaled])
    return (decoded.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def write_grid(path: Path, batch: Batch, generated: Tensor) -> None:
    """Write a PNG with a row per sample: first reference, landmark image, target, generated image.

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
