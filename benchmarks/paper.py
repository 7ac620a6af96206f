"""``paper-cpu-small.yaml``, small models behind every step: the run against its bare model calls, and what text costs of it.

Where a GPU is at hand, also every ONNX stage on it against the same stages on its host's CPU: on all cores, as many
one-threaded processes side by side as there are cores, because that is how workers run, and on one core.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from subprocess import CalledProcessError

from benchmarks.overhead import Overhead, measured, measured_at_once, missing_weights, open_recipe, part_rows
from hifidata.config.recipe import Recipe
from hifidata.config.sections import STAGE_NAMES
from hifidata.core.errors import UsageError
from hifidata.models import registry
from hifidata.models.runtime import device
from hifidata.models.runtime.onnx import OnnxModel
from hifidata.run.devices import onnx_stages
from hifidata.weights.find import find_weight

RECIPE = "paper-cpu-small"
NO_GPU = {device.VISIBLE: ""}
GPU_WORKERS = 5
"""Processes that share the GPU, or fewer where there are fewer cores: ``paper.yaml`` reserves a fifth of one for faces."""
ON_GPU = "images per second with every ONNX stage on the GPU"


def rows(photos: Path) -> Iterator[tuple[str, str, str]]:
    """(what, measured, goal) lines of the table; one line where the recipe's model files are not here."""
    recipe = open_recipe(RECIPE, photos)
    missing = missing_weights(recipe)
    if missing:
        yield f"{RECIPE} over its bare model calls", missing, ""
        return
    overhead = measured(RECIPE, photos, NO_GPU)
    wall, cpu = overhead.all_bare / overhead.executor
    yield "images per second, local executor over bare model calls", f"{wall:.3f}", "at least 0.90"
    yield "   the same in CPU time", f"{cpu:.3f}", ""
    yield from part_rows(overhead)
    yield "text on the face, of the whole run", f"{overhead.bare['text'][0] / overhead.executor[0]:.1%}", "at most 25 %"
    yield from _gpu_rows(recipe, photos, overhead)


def _gpu_rows(recipe: Recipe, photos: Path, one_core: Overhead) -> Iterator[tuple[str, str, str]]:
    lacking = no_gpu(recipe)
    if lacking:
        yield f"{ON_GPU} over those on its host's CPU", f"not measured: {lacking}", ""
        return
    n_cores = len(os.sched_getaffinity(0))
    n_sharing = min(GPU_WORKERS, n_cores)
    try:
        alone = measured(RECIPE, photos)
        sharing = measured_at_once(RECIPE, photos, n_sharing)
    except CalledProcessError:  # what it said stands above the table
        yield f"{ON_GPU} over those on its host's CPU", "not measured: a process failed on the GPU", ""
        return
    all_cores = measured_at_once(RECIPE, photos, n_cores, NO_GPU)
    named = ["text" if stage == "watermark" else stage for stage in onnx_stages(recipe, STAGE_NAMES)]
    stages = [name for name in named if name in one_core.bare]  # few photos may not get as far as the last

    def line(what: str, seconds: Callable[[Overhead], float], on_gpu: Sequence[Overhead]) -> tuple[str, str, str]:
        gpu, core, cores = (_rate(side, seconds) for side in (on_gpu, [one_core], all_cores))
        return what, f"{gpu / cores:.2f} (over one core: {gpu / core:.1f})", ""

    yield line(f"{ON_GPU} over those on all {n_cores} cores of its host", lambda o: _of(o, stages), [alone])
    for name in stages:
        yield line(f"   {name}", lambda o, name=name: _of(o, [name]), [alone])
    yield line("   the whole run, one worker with the GPU", _whole, [alone])
    yield line(f"   the whole run, {n_sharing} workers that share the GPU", _whole, sharing)


def no_gpu(recipe: Recipe) -> str:
    """Why ONNX models cannot be measured on a GPU here; "" where they can."""
    if not device.has_cuda():
        return "the installed onnxruntime has no CUDA (docs/paper.md)"
    if device.current_provider() != device.CUDA:
        return "ONNX Runtime sees no GPU"
    try:
        OnnxModel(find_weight(registry.find("detect", recipe.detect.model).weights[0]))
    except UsageError as error:
        return str(error)
    return ""


def _rate(side: Sequence[Overhead], seconds: Callable[[Overhead], float]) -> float:
    """How often the photos are done a second by processes side by side."""
    return sum(1 / seconds(one) for one in side)


def _of(one: Overhead, names: Sequence[str]) -> float:
    return float(sum(one.bare[name][0] for name in names))


def _whole(one: Overhead) -> float:
    return float(one.executor[0])
