"""The plan: what a recipe would run, where, and on what. Makes nothing, downloads nothing.

Read this file to see the main flow: a source lists identities, worker groups run the stages of
``hifidata.stages.STAGES`` over each, and an executor decides in which processes.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hifidata import backends
from hifidata.recipe import FolderSource as FolderSettings
from hifidata.recipe import Recipe
from hifidata.schema import IdentityTask
from hifidata.sources.base import Source
from hifidata.sources.folder import FolderSource
from hifidata.sources.shards import ShardsSource
from hifidata.stages import STAGES

MODEL_PACKAGES = (
    "hifi-portrait", "numpy", "opencv-python", "pillow", "dlib-bin", "face_recognition_models", "rapidocr", "onnxruntime",
    "scikit-learn", "pyarrow", "gender-guesser",
)  # fmt: skip
"""Packages whose version can change a number or a byte of the dataset; recorded in dataset.json."""


@dataclass(frozen=True)
class Plan:
    """What would run.

    Attributes:
        recipe: resolved.
        tasks: the source's identities, in source order, after ``limit``.
        is_limited: whether ``limit`` left identities out.
    """

    recipe: Recipe
    tasks: tuple[IdentityTask, ...]
    is_limited: bool

    @property
    def n_candidates(self) -> int:
        """Pictures over all identities."""
        return sum(len(task.candidates) for task in self.tasks)

    def as_dict(self) -> dict[str, Any]:
        """For ``hifidata plan --json``."""
        return {
            "name": self.recipe.name,
            "identities": len(self.tasks),
            "candidates": self.n_candidates,
            "stages": [
                {"stage": stage, "runs": runs, "model": model} for stage, runs, model in stage_table(self.recipe)
            ],
            "groups": [group.model_dump() for group in self.recipe.worker_groups],
            "models": models_of(self.recipe),
            "missing_weights": [],
            "recipe": self.recipe.model_dump(mode="json"),
            "recipe_hash": self.recipe.hash,
        }


def make_plan(recipe: Recipe, limit: int | None = None) -> Plan:
    """Lists the source. Raises SourceError where it is missing or empty."""
    tasks = tuple(open_source(recipe).identities())
    chosen = tasks if limit is None else tasks[:limit]
    return Plan(recipe, chosen, len(chosen) < len(tasks))


def open_source(recipe: Recipe) -> Source:
    """The recipe's source."""
    settings, max_bytes = recipe.source, recipe.intake.max_bytes
    if isinstance(settings, FolderSettings):
        return FolderSource(Path(settings.path), settings.licence, max_bytes)
    return ShardsSource(settings.path, settings.identity_field, settings.licence, max_bytes)


def stage_table(recipe: Recipe) -> Sequence[tuple[str, bool, str | None]]:
    """Every stage of the paper in order: its name, whether it runs, and the model it runs with."""
    rows = [(stage.name, stage.runs(recipe), getattr(stage.settings(recipe), "model", None)) for stage in STAGES]
    named = {name for name, _, _ in rows}
    idle = [(name, False, None) for name in backends.BY_STAGE if name not in named]
    return [*rows, *idle]


def models_of(recipe: Recipe) -> list[dict[str, Any]]:
    """The models the recipe names, with their licences and where their thresholds come from."""
    found = []
    for stage in backends.BY_STAGE:
        model = getattr(recipe, stage).model
        if model is not None:
            backend = backends.find(stage, model)
            found.append(
                {"stage": stage, "model": model, "licence": backend.licence, "thresholds_from": backend.origin}
            )
    return found


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that can change the output."""
    versions = {}
    for name in MODEL_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
