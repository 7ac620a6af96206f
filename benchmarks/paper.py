"""``paper-cpu-small.yaml``: the run compared with its bare model calls, and the share of text recognition.

With a GPU, the ONNX stages on the GPU are compared with the same stages on one CPU core and on all cores. For all cores,
one single-threaded process per core runs in parallel, like workers.
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
"""Processes that share the GPU, at most one per core. ``paper.yaml`` assigns a fifth of a GPU to the group faces."""
ON_GPU = "images per second with every ONNX stage on the GPU"


def rows(photos: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the table's rows (what, measured, goal), or one row if model files are missing."""
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
    problem = no_gpu(recipe)
    if problem:
        yield f"{ON_GPU} over those on its host's CPU", f"not measured: {problem}", ""
        return
    n_cores = len(os.sched_getaffinity(0))
    n_sharing = min(GPU_WORKERS, n_cores)
    try:
        alone = measured(RECIPE, photos)
        sharing = measured_at_once(RECIPE, photos, n_sharing)
    except CalledProcessError:  # its output is above the table
        yield f"{ON_GPU} over those on its host's CPU", "not measured: a process failed on the GPU", ""
        return
    all_cores = measured_at_once(RECIPE, photos, n_cores, NO_GPU)
    named = ["text" if stage == "watermark" else stage for stage in onnx_stages(recipe, STAGE_NAMES)]
    stages = [name for name in named if name in one_core.bare]  # with few photos, the last stages may not run

    def line(what: str, seconds: Callable[[Overhead], float], on_gpu: Sequence[Overhead]) -> tuple[str, str, str]:
        gpu, core, cores = (_rate(side, seconds) for side in (on_gpu, [one_core], all_cores))
        return what, f"{gpu / cores:.2f} (over one core: {gpu / core:.1f})", ""

    yield line(f"{ON_GPU} over those on all {n_cores} cores of its host", lambda o: _of(o, stages), [alone])
    for name in stages:
        yield line(f"   {name}", lambda o, name=name: _of(o, [name]), [alone])
    yield line("   the whole run, one worker with the GPU", _whole, [alone])
    yield line(f"   the whole run, {n_sharing} workers that share the GPU", _whole, sharing)


def no_gpu(recipe: Recipe) -> str:
    """Return the reason why ONNX models cannot run on a GPU, or "" if they can."""
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
    """Return the runs over all photos per second, summed over parallel processes."""
    return sum(1 / seconds(overhead) for overhead in side)


def _of(overhead: Overhead, names: Sequence[str]) -> float:
    return float(sum(overhead.bare[name][0] for name in names))


def _whole(overhead: Overhead) -> float:
    return float(overhead.executor[0])
