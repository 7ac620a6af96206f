"""Which of a recipe's models ONNX Runtime runs, and on which processor: as planned, and as workers have it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from hifidata.config.recipe import Recipe
from hifidata.models import registry
from hifidata.models.runtime import device

OWN_PACKAGES = {"pip", "uv", "conda", "py_executable", "image_uri", "container"}
"""Keys of a ``runtime_env`` with which a group's ONNX Runtime is not the one that is installed here."""


def onnx_stages(recipe: Recipe, stages: Iterable[str]) -> list[str]:
    """Those of some stages whose model ONNX Runtime runs."""
    found = []
    for stage in stages:
        named = {"embed": "verify", "verify": ""}.get(stage, stage)  # verify's model is run by embed
        spec = registry.chosen(named, getattr(recipe, named)) if named in registry.BY_STAGE else None
        if spec is not None and spec.uses_onnx_runtime:
            found.append(stage)
    return found


def planned(recipe: Recipe) -> dict[str, str | None]:
    """By worker group, the provider of its ONNX models; None where it has none, or packages of its own.

    It is what the package that is installed here can do. A GPU that is here and cannot be used is found by the worker,
    which then refuses to start.
    """
    found: dict[str, str | None] = {}
    for group in recipe.worker_groups:
        is_known = onnx_stages(recipe, group.stages) and not group.runtime_env.keys() & OWN_PACKAGES
        on_gpu = may_use_gpu(recipe, group.stages) and device.has_cuda()
        found[group.name] = (device.CUDA if on_gpu else device.CPU) if is_known else None
    return found


def may_use_gpu(recipe: Recipe, stages: Iterable[str] = ()) -> bool:
    """Whether a worker of these stages was given a GPU; ``local`` is one worker, for all stages."""
    wanted = recipe.stage_names if recipe.executor.kind == "local" else tuple(stages)
    return any(group.num_gpus for group in recipe.worker_groups if set(group.stages) & set(wanted))


def gpu_line(recipe: Recipe) -> tuple[str, bool]:
    """What the ONNX models of groups that ask for GPUs will get, in one line, and whether it is that.

    Returns:
        The line, "" where no such group asks; and False where they ask in vain.
    """
    found = planned(recipe)
    asking = [group.name for group in recipe.worker_groups if found[group.name] and may_use_gpu(recipe, group.stages)]
    if not asking:
        return "", True
    if device.has_cuda():
        return f"ONNX models of {', '.join(asking)}: {device.CUDA}", True
    return (
        f"ONNX models of {', '.join(asking)} will run on the CPU: a GPU is asked for, but the installed onnxruntime has no "
        f"{device.CUDA}; `{device.INSTALL}`, or --set executor.use_gpus=false"
    ), False


def used(noted: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """What ONNX Runtime computed on, by stage, from the notes of every person: several where runs or machines differed."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for by_stage in noted:
        for stage, provider in by_stage.items():
            found[stage].add(provider)
    return {stage: sorted(providers) for stage, providers in found.items()}
