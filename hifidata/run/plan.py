"""The plan: what a recipe would run, where, and on what. Makes nothing, downloads nothing.

Read this file to see the main flow: a source lists identities, worker groups run the stages of
``hifidata.stages.table`` over each, and an executor decides in which processes.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hifidata.config.recipe import Recipe
from hifidata.config.sections import (
    FolderSourceConfig,
    ImdbFaceSourceConfig,
    NamesSourceConfig,
    ShardsSourceConfig,
    UrlTableSourceConfig,
)
from hifidata.core.errors import SourceError, UsageError
from hifidata.core.reasons import Reason
from hifidata.core.schema import Column, IdentityTask
from hifidata.models import registry
from hifidata.run.devices import planned
from hifidata.run.requirements import check_licences, require_packages, try_own_files, weights_of
from hifidata.run.trial import try_extensions
from hifidata.sources.base import RemoteSource, Source
from hifidata.sources.folder import FolderSource
from hifidata.sources.names import NamesSource
from hifidata.sources.shards import ShardsSource
from hifidata.sources.url_table.imdb_face import imdb_face_source
from hifidata.sources.url_table.source import UrlTableSource
from hifidata.stages.fetch import Fetch
from hifidata.stages.table import OUR_STAGES, extension_models, image_columns, stages_of
from hifidata.store.layout import DatasetFolder
from hifidata.weights.search_path import searching

MODEL_PACKAGES = (
    "hifi-portrait", "numpy", "opencv-python", "pillow", "dlib-bin", "face_recognition_models", "rapidocr", "onnxruntime", "onnxruntime-gpu",
    "scikit-learn", "pyarrow", "gender-guesser",
)  # fmt: skip
"""Packages whose version can change a number or a byte of the dataset; recorded in dataset.json."""


@dataclass(frozen=True)
class Plan:
    """What would run. Holds ids and counts, never the candidates: a source may list millions.

    Attributes:
        recipe: resolved.
        candidates_of: number of candidates by identity id, in source order, after ``limit``; None for a person whose
            candidates are still to be searched for.
        is_limited: whether ``limit`` left identities out.
    """

    recipe: Recipe
    candidates_of: Mapping[str, int | None]
    is_limited: bool

    @property
    def n_candidates(self) -> int | None:
        """Pictures over all identities; None where somebody is still to be searched for."""
        return self.n_candidates_of(self.candidates_of)

    def n_candidates_of(self, identity_ids: Iterable[str]) -> int | None:
        """Pictures of some identities, likewise."""
        total = 0
        for identity_id in identity_ids:
            n_candidates = self.candidates_of[identity_id]
            if n_candidates is None:
                return None
            total += n_candidates
        return total

    def as_dict(self) -> dict[str, Any]:
        """For ``hifidata plan --json``."""
        providers, weights = planned(self.recipe), weights_of(self.recipe)
        return {
            "name": self.recipe.name,
            "identities": len(self.candidates_of),
            "candidates": self.n_candidates,
            "stages": [
                {"stage": stage, "runs": runs, "model": model, "drops": limits_of(self.recipe, stage) if runs else []}
                for stage, runs, model in stage_table(self.recipe)
            ],
            "groups": [
                group.model_dump() | {"onnx_provider": providers[group.name]} for group in self.recipe.worker_groups
            ],
            "models": models_of(self.recipe),
            "weights": weights,
            "problems": list(_problems(self.recipe, all(row["advice"] is None for row in weights))),
            "recipe": self.recipe.model_dump(mode="json"),
            "recipe_hash": self.recipe.hash,
        }


def make_plan(recipe: Recipe, limit: int | None = None, out: Path | None = None) -> Plan:
    """Lists the source once.

    Args:
        recipe: resolved.
        limit: at most so many identities.
        out: the dataset folder, where a run may keep what listing the source has cost it.

    Raises:
        SourceError: it is missing or empty.
        WeightsError: a model's licence does not fit the recipe's ``licence_policy``.
    """
    image_columns(recipe)  # refuses stages and models of other packages that do not fit
    check_licences(recipe)
    candidates_of: dict[str, int | None] = {}
    is_limited = False
    for task in _identities(recipe, out):
        is_limited = limit is not None and len(candidates_of) == limit
        if is_limited:
            break
        if task.identity_id in candidates_of:
            raise SourceError(
                f"source: {task.identity_name!r} is listed twice; give every person one name of their own"
            )
        candidates_of[task.identity_id] = None if task.query else len(task.candidates)
    return Plan(recipe, candidates_of, is_limited)


def _problems(recipe: Recipe, has_weights: bool) -> Iterator[str]:
    """Problems besides missing model files that would keep a run from starting on this machine."""
    for check in (require_packages, try_own_files, *([try_extensions] if has_weights else [])):
        try:
            with searching(recipe.weights.folder):
                check(recipe)
        except UsageError as error:
            yield str(error)


def list_tasks(recipe: Recipe, wanted: Container[str], out: Path | None = None) -> Iterator[IdentityTask]:
    """The source's identities whose id is wanted, in source order, one at a time."""
    return (task for task in _identities(recipe, out) if task.identity_id in wanted)


def _identities(recipe: Recipe, out: Path | None) -> Iterator[IdentityTask]:
    return (open_remote(recipe, out) if is_remote(recipe) else open_source(recipe)).identities()


def is_remote(recipe: Recipe) -> bool:
    """Whether the source lists URLs."""
    return recipe.source.is_remote


def open_source(recipe: Recipe) -> Source:
    """The recipe's source, where the bytes are at hand."""
    settings, max_bytes = recipe.source, recipe.intake.max_bytes
    if isinstance(settings, (FolderSourceConfig, ShardsSourceConfig)) and not settings.path:
        raise SourceError("source.path is missing; pass --set source.path=PHOTOS")
    if isinstance(settings, FolderSourceConfig):
        return FolderSource(Path(settings.path), settings.licence, max_bytes)
    if isinstance(settings, ShardsSourceConfig):
        return ShardsSource(settings.path, settings.identity_field, settings.licence, max_bytes)
    raise SourceError(f"source.kind: {settings.kind} lists URLs; its pictures have to be fetched first")


def open_remote(recipe: Recipe, out: Path | None = None) -> RemoteSource:
    """The recipe's source, where its pictures lie on the web.

    Args:
        recipe: resolved.
        out: the dataset folder, where the source may keep its index for the next listing; None: nowhere.
    """
    if isinstance(recipe.source, NamesSourceConfig):
        return NamesSource(recipe.source, recipe.fetch, os.environ)
    settings, cache = recipe.source, DatasetFolder(out).source_index if out else None
    if isinstance(settings, (UrlTableSourceConfig, ImdbFaceSourceConfig)) and not settings.path:
        raise SourceError("source.path is missing; pass --set source.path=TABLE")
    if isinstance(settings, ImdbFaceSourceConfig):
        return imdb_face_source(Path(settings.path), settings.licence, cache)
    if isinstance(settings, UrlTableSourceConfig):
        return UrlTableSource(Path(settings.path), settings.columns, settings.format, settings.licence, cache)
    raise SourceError(f"source.kind: {settings.kind} lists files, not URLs")


def stage_table(recipe: Recipe) -> Sequence[tuple[str, bool, str | None]]:
    """Every stage of the recipe in order: its name, whether it runs, and the model it runs with."""
    rows: list[tuple[str, bool, str | None]] = [(Fetch.name, True, None)] if Fetch.runs(recipe) else []
    return rows + [
        (stage.name, stage.runs(recipe), getattr(stage.config(recipe), "model", None)) for stage in stages_of(recipe)
    ]


def limits_of(recipe: Recipe, stage_name: str) -> list[str]:
    """The numbers for which a stage drops a picture, and their limits: ``quality below 0.6 (quality.min_score)``."""
    found = []
    for stage in stages_of(recipe):
        for limit in (reason.limit for reason in stage.reasons if stage.name == stage_name and reason.limit):
            value = getattr(stage.config(recipe), limit.setting.partition(".")[2])
            if value is not None:
                found.append(f"{limit.label} {limit.drops} {value:g}{limit.unit} ({limit.setting})")
    return found


def models_of(recipe: Recipe) -> list[dict[str, Any]]:
    """The models the recipe names, with their licences and where their thresholds come from."""
    found = []
    for stage in registry.BY_STAGE:
        section = getattr(recipe, stage)
        spec = registry.chosen(stage, section)
        if spec is not None:
            facts = {
                "stage": stage, "model": section.model, "licence": spec.licence, "thresholds_from": spec.thresholds_from
            }  # fmt: skip
            own = getattr(section, "file_sha256", None)
            found.append(facts | ({} if own is None else {"file_sha256": own}))
    return found


def extensions_of(recipe: Recipe) -> list[dict[str, Any]]:
    """What stages and models of other packages declare, for dataset.json: a report needs no package of theirs."""
    found = []
    for stage in stages_of(recipe):
        if stage not in OUR_STAGES:
            noted = recipe.extensions[f"stages.{stage.name}"].model_dump()
            words = {"name": stage.name, "title": stage.title, "does": stage.does, "not_run": stage.not_run}
            found.append({**words, "licence": stage.licence, **noted, **_declared(stage.columns, stage.reasons)})
    for section, spec in extension_models(recipe):
        noted = recipe.extensions[f"{section}.model"].model_dump()
        found.append({"stage": section, "licence": spec.licence, **noted, **_declared(spec.columns, spec.reasons)})
    return found


def _declared(columns: Sequence[Column], reasons: Sequence[Reason]) -> dict[str, Any]:
    return {
        "columns": [asdict(column) for column in columns],
        "reasons": [
            {"code": str(reason), "label": reason.label, "sentence": reason.sentence, "failed": reason.failed,
             "limit": asdict(reason.limit) if reason.limit else None}
            for reason in reasons
        ],
    }  # fmt: skip


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that can change the output."""
    versions = {}
    for name in MODEL_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
