"""Table of all stages in order of execution, with the columns and reasons that they declare.

The manifest schema, the report, ``hifidata plan`` and manifests/README.md use this table. A recipe with stages or models of
other packages extends it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import get_args

from hifidata.config.recipe import Recipe
from hifidata.config.sections import STAGES, StageSections
from hifidata.core.errors import RecipeError
from hifidata.core.extensions import STAGES as STAGE_ENTRY_POINTS
from hifidata.core.extensions import load_class
from hifidata.core.reasons import MODEL_ERROR, Drops, by_code
from hifidata.core.schema import SOURCE_COLUMNS, VERDICT_COLUMNS, Column
from hifidata.core.suggest import suggestion
from hifidata.models import registry
from hifidata.models.spec import (
    ModelSpec,
    declared_columns,
    declared_files,
    declared_reasons,
    require_method,
    require_texts,
    require_values,
    stage_spec,
)
from hifidata.stages.base import Stage
from hifidata.stages.fetch import Fetch
from hifidata.weights.catalogue import Weight


def _imported(path: str) -> type[Stage]:
    module, _, name = path.partition(":")
    stage: type[Stage] = getattr(importlib.import_module(module), name)
    return stage


OUR_STAGES: tuple[type[Stage], ...] = tuple(map(_imported, STAGES.values()))
"""Stages of hifidata, in order of execution."""

DECLARED: tuple[type[Stage], ...] = (Fetch, *OUR_STAGES)
"""Stages of hifidata and the crawl, which no worker runs."""


def columns_of(stages: Iterable[type[Stage]]) -> tuple[Column, ...]:
    """Return the columns of images.parquet for the given stages."""
    return (*SOURCE_COLUMNS, *(column for stage in stages for column in stage.columns), *VERDICT_COLUMNS)


IMAGE_COLUMNS = columns_of(DECLARED)
"""Columns of every images.parquet. Columns of a stage that did not run are null."""

REASONS = by_code([*(reason for stage in DECLARED for reason in stage.reasons), MODEL_ERROR])
"""All reasons of hifidata by code, in the order of the stages."""


def stages_of(recipe: Recipe) -> tuple[type[Stage], ...]:
    """Return all stages of a recipe in order, also disabled ones. Raises RecipeError if an extension does not fit."""
    ours = {stage.name: stage for stage in OUR_STAGES}
    theirs = {name: _extension(use.use) for name, use in zip(recipe.extension_sections, recipe.stages, strict=True)}
    return tuple((ours | theirs)[name] for name in recipe.stage_names)


@cache
def _extension(path: str) -> type[Stage]:
    stage = load_class(path, STAGE_ENTRY_POINTS, "stages.use")
    where = f"stages.use: {path}"
    if not issubclass(stage, Stage):
        raise RecipeError(f"{where}: expected a class derived from hifidata.stages.base.Stage")
    require_texts(stage, ("title", "does", "not_run", "licence"), where)
    require_values(stage, "scope", ("image", "identity"), where)
    for key in stage.replayable:
        fields = stage.Config.model_fields  # type: ignore[attr-defined]
        if key not in fields:
            raise RecipeError(f"{where}: replayable: {stage.name} has no setting {key!r}; {suggestion(key, fields)}")
    for method, n_arguments in (("measure", 1), ("derive", 1), ("decide", 1)):
        require_method(stage, method, n_arguments, where)
    declared_files(stage, where)
    declared_reasons(stage, where)
    for column in declared_columns(stage, where):
        if column.name in {ours.name for ours in IMAGE_COLUMNS}:
            raise RecipeError(f"{where}: hifidata has a column {column.name}; start the name with {stage.name}_")
    for reason in stage.reasons:
        if str(reason) in REASONS:
            raise RecipeError(f"{where}: hifidata has a reason {reason}; rename it")
    found: type[Stage] = stage
    return found


def image_columns(recipe: Recipe) -> tuple[Column, ...]:
    """Return the columns of images.parquet for a recipe, including columns of extensions."""
    extra = [column for stage in stages_of(recipe) if stage not in OUR_STAGES for column in stage.columns]
    for section, spec in extension_models(recipe):
        for column in spec.columns:
            if column.name in {known.name for known in (*IMAGE_COLUMNS, *extra)}:
                raise RecipeError(
                    f"{section}.model: the column {column.name} exists already; start the name with the model's name"
                )
            extra.append(column)
    columns = (*IMAGE_COLUMNS[: -len(VERDICT_COLUMNS)], *extra, *VERDICT_COLUMNS)
    _check_references(recipe, [column.name for column in columns])
    return columns


def _check_references(recipe: Recipe, columns: Sequence[str]) -> None:
    """Check the columns, settings and model files that extensions name. Raises RecipeError."""
    sections = {name: getattr(recipe, name) for name in StageSections.model_fields} | recipe.extension_sections
    settings = [f"{name}.{key}" for name, section in sections.items() for key in type(section).model_fields]
    stages = [stage for stage in stages_of(recipe) if stage not in OUR_STAGES]
    specs = {f"stages.use: {stage.name}": stage_spec(stage) for stage in stages}
    specs |= {f"{section}.model": spec for section, spec in extension_models(recipe)}
    for stage in stages:
        for column in stage.required_columns:
            if column not in columns:
                raise RecipeError(
                    f"stages.use: {stage.name}: required_columns: no column {column!r}; {suggestion(column, columns)}"
                )
    weights: dict[str, Weight] = {}
    for key, spec in specs.items():
        where = f"{key}: {spec.path}"
        for limit in (reason.limit for reason in spec.reasons if reason.limit):
            if limit.column not in columns:
                raise RecipeError(f"{where}: Limit: no column {limit.column!r}; {suggestion(limit.column, columns)}")
            if limit.setting not in settings:
                raise RecipeError(
                    f"{where}: Limit: no setting {limit.setting!r}; {suggestion(limit.setting, settings)}"
                )
            if limit.drops not in get_args(Drops):
                raise RecipeError(
                    f"{where}: Limit: drops is {limit.drops!r}; expected one of {', '.join(get_args(Drops))}"
                )
        for weight in spec.weights:
            if weights.setdefault(weight.name, weight) != weight:
                raise RecipeError(f"{where}: files: another class has a file with the name {weight.name}; rename one")


def extension_models(recipe: Recipe) -> Iterator[tuple[str, ModelSpec]]:
    """Yield section and spec of each model of another package that a recipe names."""
    for section in registry.BY_STAGE:
        spec = registry.chosen(section, getattr(recipe, section))
        if spec is not None and spec.origin is not None:
            yield section, spec
