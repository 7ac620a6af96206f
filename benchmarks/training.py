"""Training: a step of the tiny preset compared with the bare forward and backward passes of the same modules.

python -m benchmarks.training --shards 'datasets/demo/shards/**/*.tar'
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import cv2
import torch
from accelerate import Accelerator

from hifidata.cli import console
from hifidata.core.errors import HifiError
from hifimodel.config import load_preset
from hifimodel.data import Batch
from hifimodel.losses.denoising import denoising_loss, predict_x0
from hifimodel.losses.identity import NoiseLevels
from hifimodel.nets.face_refiner import pack_references
from hifimodel.nets.hifinet import encode_images, landmark_latents
from hifimodel.nets.text_encoders import encode_prompts
from hifimodel.training.draws import draw
from hifimodel.training.identity import IdentityTerm, identity_term
from hifimodel.training.loop import Loop, ahead
from hifimodel.training.options import RunOptions
from hifimodel.training.setup import Run, resolved, set_up

STEPS = 12
"""Steps per round; all loops use the same batches."""
ROUNDS = 4
"""Measurements of each loop, in turns; the fastest counts."""

Clock = Callable[[], float]


def rows(shards: str) -> Iterator[tuple[str, str, str]]:
    """Yield the table's rows (what, measured, goal). One thread; CPU time excludes the load of other processes."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = _new_run(shards, Path(folder))
        term = identity_term(run.modules.base, run.options.preset.model, run.settings, run.frozen.device, None)
        loop = Loop(run, lambda line: None)
        batches = list(itertools.islice(run.loader, STEPS))
        cpu, wall = time.process_time, time.perf_counter
        bare, preloaded, loading, bare_wall, ahead_wall = (float("inf"),) * 5
        for _ in range(ROUNDS):
            bare = min(bare, _seconds(cpu, lambda: [_bare(run, batch, term) for batch in batches]))
            preloaded = min(preloaded, _seconds(cpu, lambda: _steps(loop, iter(batches))))
            loading = min(loading, _seconds(cpu, lambda: _steps(loop, iter(run.loader))))
            bare_wall = min(bare_wall, _seconds(wall, lambda: [_bare(run, batch, term) for batch in batches]))
            with closing(ahead(iter(run.loader))) as stream:
                _steps(loop, stream, 2)
                ahead_wall = min(ahead_wall, _seconds(wall, lambda stream=stream: _steps(loop, stream)))
    each = bare / STEPS
    yield (
        "training step over bare forward and backward, CPU time",
        f"{preloaded / bare:.3f} ({each * 1e3:.0f} ms)",
        "at most 1.10",
    )
    yield "   the same with batches made from shards in the same process, CPU time", f"{loading / bare:.3f}", ""
    yield (
        "   the same with batches made ahead on another core, wall time",
        f"{ahead_wall / bare_wall:.3f}",
        "at most 1.10",
    )


def _new_run(shards: str, folder: Path) -> Run:
    preset = load_preset("tiny")
    options = resolved(RunOptions(shards, folder / "run", preset), lambda line: None)
    return set_up(options, Accelerator(cpu=True, mixed_precision="no"), lambda line: None)


def _steps(loop: Loop, batches: Iterator[Batch], n_steps: int = STEPS) -> None:
    for _ in range(n_steps):
        loop.step(batches)


def _bare(run: Run, batch: Batch, term: IdentityTerm | None) -> None:
    """Run each module once, forward and backward, without optimizer and metrics."""
    base, modules = run.modules.base, run.modules
    with torch.no_grad():
        latents = encode_images(base.vae, batch.pixels_u8.permute(0, 3, 1, 2))
        landmarks = landmark_latents(base.vae, batch.landmarks_u8.permute(0, 3, 1, 2))
        clip_tokens = modules.face_encoder(batch.reference_clip)
        text = encode_prompts(base, batch.captions, "zeros")
    draws = draw(batch.keys, 0, run.draws)
    noisy = base.scheduler.add_noise(latents, draws.noise, draws.timesteps)
    tokens = pack_references(modules.refiner(clip_tokens, batch.reference_embeddings), batch.counts)
    added = {"text_embeds": text.pooled, "time_ids": batch.time_ids}
    down, middle = modules.hifinet(
        noisy, draws.timesteps, tokens, landmarks, added_cond_kwargs=added, return_dict=False
    )
    prediction = base.unet(
        noisy,
        draws.timesteps,
        text.tokens,
        added_cond_kwargs=added,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
        return_dict=False,
    )[0]
    loss = denoising_loss(prediction, draws.noise)
    if term is not None:
        x0 = predict_x0(base.scheduler, noisy, prediction, draws.timesteps)
        identity = term(x0, batch, NoiseLevels(draws.timesteps, base.scheduler.alphas_cumprod))
        loss = loss + run.settings.id_weight * identity.loss
    loss.backward()
    for parameter in modules.trainable():
        parameter.grad = None


def _seconds(clock: Clock, call: Callable[[], object]) -> float:
    began = clock()
    call()
    return clock() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--shards", required=True, help="a dataset folder, a folder of tars, or a quoted pattern")
    options = parser.parse_args()
    try:
        console.table("training, tiny preset", ("what", "measured", "goal"), rows(options.shards))
    except HifiError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
