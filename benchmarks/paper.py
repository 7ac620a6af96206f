"""``paper-cpu-small.yaml``, small models behind every step: the run against its bare model calls, and what text costs of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.overhead import Overhead, measured, missing_weights, open_recipe, part_rows
from hifidata import backends, weights
from hifidata.backends.onnx_model import OnnxModel
from hifidata.recipe import Recipe

RECIPE = "paper-cpu-small"
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
ON_GPU = ("detect", "occlusion", "embed", "face3d")
"""Calls of this recipe that ONNX Runtime can put on a GPU; text stays on the CPU, the rest are no networks."""


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


def _gpu_rows(recipe: Recipe, photos: Path, on_cpu: Overhead) -> Iterator[tuple[str, str, str]]:
    detector = OnnxModel(weights.find(backends.find("detect", recipe.detect.model).weights[0]))
    if detector.provider != "CUDAExecutionProvider":
        yield "images per second with a GPU over one core of its host", "not measured: ONNX Runtime sees no GPU", ""
        return
    on_gpu = measured(RECIPE, photos)
    gain = on_cpu.executor[0] / on_gpu.executor[0]
    yield "images per second with a GPU over one core of its host", f"{gain:.1f}", ""
    for name in ON_GPU:
        yield f"   the same of {name} alone", f"{on_cpu.bare[name][0] / on_gpu.bare[name][0]:.1f}", ""
