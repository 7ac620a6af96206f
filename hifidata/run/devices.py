"""Execution providers of ONNX Runtime: the planned provider of each worker group, and the provider that each stage used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from hifidata.config.recipe import Recipe
from hifidata.models import registry
from hifidata.models.runtime import device

OWN_PACKAGES = {"pip", "uv", "conda", "py_executable", "image_uri", "container"}
"""Keys of ``runtime_env`` that give a group other packages than this environment, and so another ONNX Runtime."""


def onnx_stages(recipe: Recipe, stages: Iterable[str]) -> list[str]:
    """Return the stages whose model runs on ONNX Runtime."""
    found = []
    for stage in stages:
        named = {"embed": "verify", "verify": ""}.get(stage, stage)  # the stage embed runs verify.model
        spec = registry.chosen(named, getattr(recipe, named)) if named in registry.BY_STAGE else None
        if spec is not None and spec.uses_onnx_runtime:
            found.append(stage)
    return found


def planned_providers(recipe: Recipe) -> dict[str, str | None]:
    """Return the provider of each worker group; None for a group without ONNX models or with its own packages.

    The plan depends on the onnxruntime package of this environment. It does not test the GPU: a worker that cannot use its
    GPU refuses to start.
    """
    found: dict[str, str | None] = {}
    for group in recipe.worker_groups:
        is_known = onnx_stages(recipe, group.stages) and not group.runtime_env.keys() & OWN_PACKAGES
        on_gpu = may_use_gpu(recipe, group.stages) and device.has_cuda()
        found[group.name] = (device.CUDA if on_gpu else device.CPU) if is_known else None
    return found


def may_use_gpu(recipe: Recipe, stages: Iterable[str] = ()) -> bool:
    """Return whether a worker of these stages has a GPU. The executor ``local`` is one worker for all stages."""
    wanted = recipe.stage_names if recipe.executor.kind == "local" else tuple(stages)
    return any(group.num_gpus for group in recipe.worker_groups if set(group.stages) & set(wanted))


def gpu_message(recipe: Recipe) -> tuple[str, bool]:
    """Return a line about the device of ONNX models in groups with GPUs, and whether the requested GPU is available.

    Returns:
        The line, empty if no such group exists; False if the requested GPU is not available.
    """
    providers = planned_providers(recipe)
    groups = [g.name for g in recipe.worker_groups if providers[g.name] and may_use_gpu(recipe, g.stages)]
    if not groups:
        return "", True
    if device.has_cuda():
        return f"ONNX models of {', '.join(groups)}: {device.CUDA}", True
    return (
        f"ONNX models of {', '.join(groups)} will run on the CPU: the requested GPU is not available, because the installed "
        f"onnxruntime has no {device.CUDA}; run `{device.INSTALL}`, or pass --set executor.use_gpus=false"
    ), False


def used_providers(records: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """Merge the providers by stage of all identities. A stage has several providers if runs or machines differed."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for by_stage in records:
        for stage, provider in by_stage.items():
            found[stage].add(provider)
    return {stage: sorted(providers) for stage, providers in found.items()}
