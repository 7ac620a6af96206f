"""The recipe: one YAML file with the source, the settings of each stage, and the limits.

``sections`` declares the sections; ``loader`` reads the files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, model_serializer, model_validator

from hifidata.config import loader
from hifidata.config.run import (
    ExecutorConfig,
    ExtensionConfig,
    FailuresConfig,
    OutputConfig,
    StageUseConfig,
    WeightsConfig,
    WorkerGroupConfig,
)
from hifidata.config.sections import STAGES, StageConfig, StageSections
from hifidata.config.sources import FetchConfig, SourceConfig
from hifidata.core.base_config import validate as validate_config
from hifidata.core.errors import RecipeError
from hifidata.core.extensions import STAGES as STAGE_ENTRY_POINTS
from hifidata.core.extensions import load_class
from hifidata.core.suggest import suggestion
from hifidata.models import registry
from hifidata.models.config import SERVER_MANNERS, ModelFileConfig
from hifidata.models.custom_file import sha256_entry
from hifidata.models.spec import stage_spec

WITHOUT_EFFECT = ("executor", "fetch", "failures", "groups", "description", "weights", "licence_policy")
"""Sections without effect on images, rows and shards. A resumed run may change them."""

REMOVED_KEYS: Mapping[str, Any] = {"detect.reduced_decode": False}
"""Removed keys, with the value that had no effect. Recipes and datasets with this value are still accepted."""

ADDED_KEYS: Mapping[str, Any] = {
    "source.depth": 1,
    "verify.method": "paper",
    "verify.min_pair_similarity": None,
    "verify.max_second_group": None,
}
"""Keys younger than version 0.1.0, with the value that means "as before". With this value they are not in the hash."""

SECRET_SECTION = "caption.server.extra"
"""Its values may be secret, such as a key in the request's body. Files to share and messages do not contain them."""


class Recipe(StageSections):
    """A complete recipe. Without ``groups``, all stages run in one worker group."""

    name: str = Field(description="name of the dataset, for reports and the dataset card")
    description: str = Field("", description="one sentence about the dataset, for the report")
    source: SourceConfig
    fetch: FetchConfig = FetchConfig()
    stages: tuple[StageUseConfig, ...] = Field((), description="stages of other packages")
    output: OutputConfig = OutputConfig()
    failures: FailuresConfig = FailuresConfig()
    weights: WeightsConfig = WeightsConfig()
    licence_policy: Literal["permissive", "research"] = Field(
        "research",
        description="permissive: refuse models whose licence does not allow commercial use, or is unknown. research: allow all",
    )
    executor: ExecutorConfig = ExecutorConfig()
    groups: tuple[WorkerGroupConfig, ...] = ()
    extensions: dict[str, ExtensionConfig] = Field(
        {},
        description="package, version and file hashes of stages and models of other packages; set when the recipe is loaded",
    )
    extension_sections: dict[str, SerializeAsAny[StageConfig]] = Field({}, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _collect_extension_sections(cls, data: Any) -> Any:
        # In the file, sections of other packages' stages are beside hifidata's sections.
        if not isinstance(data, Mapping) or not isinstance(data.get("stages"), (list, tuple)):
            return data
        rest, sections = dict(data), {}
        for use in data["stages"]:
            if not isinstance(use, Mapping) or not isinstance(use.get("use"), str):
                return data  # the field's own validation reports the problem
            stage = load_class(use["use"], STAGE_ENTRY_POINTS, "stages.use")
            name, config = getattr(stage, "name", None), getattr(stage, "Config", None)
            if not isinstance(name, str) or not (isinstance(config, type) and issubclass(config, StageConfig)):
                raise RecipeError(
                    f"stages.use: {use['use']} is not a stage: expected a class with a name and a Config derived from "
                    "hifidata.config.sections.StageConfig; see docs/extending.md"
                )
            if name in cls.model_fields or name in STAGES or name in sections:
                raise RecipeError(f"stages.use: {use['use']}: the name {name} is taken; rename the stage")
            sections[name] = validate_config(config, rest.pop(name, None) or {}, "", RecipeError, section=name)
        return rest | {"extension_sections": sections}

    @model_serializer(mode="wrap")
    def _with_extension_sections(self, serialize: Any) -> dict[str, Any]:
        data: dict[str, Any] = serialize(self)
        return data | {name: section.model_dump(mode="json") for name, section in self.extension_sections.items()}

    @model_validator(mode="after")
    def _groups_name_stages_in_order(self) -> Recipe:
        names = self.stage_names
        listed = [stage for group in self.groups for stage in group.stages]
        unknown = [stage for stage in listed if stage not in names]
        if unknown or listed != [stage for stage in names if stage in listed]:
            wrong = f"unknown: {', '.join(unknown)}" if unknown else f"got {', '.join(listed)}"
            raise ValueError(f"groups: expected each stage at most once, in this order: {', '.join(names)}; {wrong}")
        return self

    @model_validator(mode="after")
    def _landmarks_have_a_source(self) -> Recipe:
        if self.landmarks.model == "face3d" and self.face3d.model is None:
            raise ValueError("landmarks.model is face3d, but face3d.model is null; set it to tddfa or mesh")
        return self

    @model_validator(mode="after")
    def _captions_have_a_source(self) -> Recipe:
        if self.caption.model == "sidecar" and self.source.is_remote:
            raise ValueError(
                "caption.model is sidecar, but the source lists URLs or names; use a folder or shards, or another model"
            )
        return self

    @model_validator(mode="after")
    def _restoration_is_allowed(self) -> Recipe:
        if self.restore.model is None:
            return self
        if getattr(self.source, "already_restored", False):
            raise ValueError("restore.model is set, but source.already_restored is true; set restore.model to null")
        if self.verify.model is None:
            raise ValueError(
                "restore.model is set, but verify.model is null; its embedder compares the face before and after "
                "restoration. Set verify.model, or set restore.model to null"
            )
        return self

    @property
    def stage_names(self) -> tuple[str, ...]:
        """All stages in the order of execution, including stages of other packages."""
        names = list(STAGES)
        for use, name in zip(self.stages, self.extension_sections, strict=True):
            if use.after not in names:
                raise ValueError(
                    f"stages.after: unknown stage {use.after}; {suggestion(use.after, names, 'expected one of')}"
                )
            at = names.index(use.after) + 1
            while at < len(names) and names[at] in self.extension_sections:
                at += 1  # stages after the same stage run in the order of the list
            names.insert(at, name)
        return tuple(names)

    def section(self, name: str) -> StageConfig:
        """Return the section of a stage."""
        found: StageConfig = self.extension_sections[name] if name in self.extension_sections else getattr(self, name)
        return found

    @property
    def worker_groups(self) -> tuple[WorkerGroupConfig, ...]:
        """The worker groups, with all stages. An unlisted stage joins the group of the stage before it."""
        if not self.groups:
            return (self._group("all", self.stage_names),)
        names = self.stage_names
        starts = [0, *(names.index(group.stages[0]) for group in self.groups[1:]), len(names)]
        return tuple(
            group.model_copy(
                update={"stages": names[starts[i] : starts[i + 1]]}
                | ({} if self.executor.use_gpus else {"num_gpus": 0.0})
            )
            for i, group in enumerate(self.groups)
        )

    def _group(self, name: str, stages: Sequence[str]) -> WorkerGroupConfig:
        return WorkerGroupConfig(name=name, stages=tuple(stages))

    @property
    def effect(self) -> dict[str, Any]:
        """The settings that affect the dataset, without sections of disabled stages and ``WITHOUT_EFFECT``."""
        sections = {name: getattr(self, name) for name in type(self).model_fields} | self.extension_sections
        left_out: Any = {
            **dict.fromkeys(WITHOUT_EFFECT, True),
            "source": {"pause_s", "key_env", "base_urls"},
            "caption": {"server": set(SERVER_MANNERS)},
            # the file's hash counts, not its path
            **{name: {"file"} for name, section in sections.items() if isinstance(section, ModelFileConfig)},
        }
        data = self.model_dump(mode="json", exclude=left_out)
        for key, neutral in ADDED_KEYS.items():
            section_name, _, key_name = key.partition(".")
            if data[section_name].get(key_name, ...) == neutral:
                del data[section_name][key_name]
        off = [name for name, section in sections.items() if isinstance(section, StageConfig) and not section.runs]
        empty = [name for name in ("stages", "extensions") if not data[name]]
        return {name: value for name, value in data.items() if name not in (*off, *empty)}

    def to_json(self) -> str:
        """Return the recipe as ASCII. Pydantic's own JSON cannot contain file names that are not UTF-8."""
        return json.dumps(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Return the recipe that ``to_json`` wrote."""
        return cls.model_validate(json.loads(text))

    @property
    def published(self) -> dict[str, Any]:
        """The recipe as JSON for files to share, without the values of ``SECRET_SECTION``."""
        data = self.model_dump(mode="json")
        server = data["caption"]["server"]
        server["extra"] = dict.fromkeys(server["extra"], "***")
        return data

    @property
    def hash(self) -> str:
        """Hex sha256 of ``effect``."""
        return hashlib.sha256(json.dumps(self.effect, sort_keys=True).encode()).hexdigest()


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe with ``--set key=value`` overrides.

    Args:
        path: YAML file.
        overrides: ``section.key=value`` strings; the value is parsed as YAML.

    Raises:
        RecipeError: the file is missing, is not YAML, or a key or value is wrong. The message names the nearest valid key.
    """
    return resolve(read_recipe(path, overrides), where=f"recipe {path}")


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a recipe file and apply overrides, without validation. Raises RecipeError if the file cannot be read."""
    if not path.exists():
        raise RecipeError(f"recipe {path}: no such file; `hifidata recipes list` lists the bundled recipes")
    return apply_overrides(loader.read_yaml(path, f"recipe {path}", RecipeError), overrides)


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of ``data`` with all overrides applied. Raises RecipeError if an override is malformed."""
    return loader.apply_overrides(data, overrides, RecipeError, example="quality.min_score=0.6")


def resolve(data: Mapping[str, Any], where: str) -> Recipe:
    """Validate a recipe and fill in the models' defaults. Raises RecipeError with one line per problem."""
    recipe = validate(data, where)
    try:
        return _with_model_defaults(recipe)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None


def validate(data: Mapping[str, Any], where: str) -> Recipe:
    """Validate keys and values, without reading the files that they name. Raises as ``resolve``."""
    try:
        return validate_config(Recipe, without_removed_keys(data), where, RecipeError)
    except RecipeError as error:
        text = str(error)
        raise RecipeError(text if text.startswith(where) else f"{where}: {text}") from None


def without_removed_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy without ``REMOVED_KEYS``. Raises RecipeError if a removed key has a value that had an effect."""
    result = dict(data)
    for key, neutral in REMOVED_KEYS.items():
        section, _, name = key.partition(".")
        if isinstance(result.get(section), Mapping) and name in result[section]:
            rest = dict(result[section])
            if rest.pop(name) != neutral:
                raise RecipeError(f"{key}: this key was removed (see CHANGELOG.md); delete it")
            result[section] = rest
    return result


def _with_model_defaults(recipe: Recipe) -> Recipe:
    """Replace null thresholds by the model's defaults, and record the extensions.

    Raises:
        RecipeError: a model does not exist, or does not fit the other settings.
    """
    filled: dict[str, Any] = {}
    models: dict[str, str] = {}
    for stage in registry.BY_STAGE:
        section: Any = getattr(recipe, stage)
        spec = registry.chosen(stage, section)
        file_facts = sha256_entry(stage, section) if isinstance(section, ModelFileConfig) else {}
        if spec is None:
            continue
        models[stage], defaults = section.model, spec.defaults or {}
        filled[stage] = section.model_copy(
            update={**file_facts, **{key: value for key, value in defaults.items() if getattr(section, key) is None}}
        )
    registry.check_landmarks(models, recipe.landmarks.model)
    return recipe.model_copy(update={**filled, "extensions": _extension_records(recipe)})


def _extension_records(recipe: Recipe) -> dict[str, ExtensionConfig]:
    """Return package, version and file hashes of the stages and models of other packages, by recipe key."""
    specs = {
        f"stages.{name}": stage_spec(load_class(use.use, STAGE_ENTRY_POINTS, "stages.use"))
        for name, use in zip(recipe.extension_sections, recipe.stages, strict=True)
    }
    for stage in registry.BY_STAGE:
        spec = registry.chosen(stage, getattr(recipe, stage))
        if spec is not None and spec.origin is not None:
            specs[f"{stage}.model"] = spec
    return {
        key: ExtensionConfig(
            path=spec.path,
            package=spec.origin.package,
            version=spec.origin.version,
            files={weight.file: weight.sha256 or str(weight.url) for weight in spec.weights},
        )
        for key, spec in specs.items()
        if spec.origin is not None
    }


def changes(old: Mapping[str, Any], new: Recipe) -> list[str]:
    """Return ``key: old -> new`` for every setting whose change affects the dataset.

    A setting that the old recipe lacks had no effect, or the effect of the current default.

    Args:
        old: the recipe that the dataset records.
        new: the recipe of this run.
    """
    after = new.model_dump(mode="json")
    try:
        recorded = Recipe.model_validate(without_removed_keys(old))
    except (ValueError, RecipeError):  # the recipe of an old version: compare its keys without validation
        return differences(old, after, WITHOUT_EFFECT)
    before, then, now = recorded.model_dump(mode="json"), recorded.effect, new.effect
    unchanged = [name for name in before.keys() | after.keys() if then.get(name) == now.get(name)]
    return differences(before, after, unchanged)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], without: Container[str] = ()) -> list[str]:
    """Return ``key: old -> new`` for every key in which two recipes differ, except in the sections ``without``."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return [
        f"{key}: changed"
        if key.startswith(SECRET_SECTION)
        else f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, ...) != after.get(key, ...) and key.partition(".")[0] not in without
    ]


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
