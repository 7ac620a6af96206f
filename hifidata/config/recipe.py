"""The recipe: one YAML file that says where photos come from, what each stage does, and where the limits are.

What each section holds stands in ``recipe_sections``; here the file is read, overridden, checked and compared.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from hifidata.config.sections import (
    SOURCE_KINDS,
    AttributesConfig,
    CaptionConfig,
    CropConfig,
    DedupConfig,
    DetectConfig,
    ExecutorConfig,
    Face3DConfig,
    FailuresConfig,
    FetchConfig,
    IntakeConfig,
    LandmarksConfig,
    MattingConfig,
    OcclusionConfig,
    OutputConfig,
    QualityConfig,
    RestoreConfig,
    SourceConfig,
    VerifyConfig,
    WatermarkConfig,
    WeightsConfig,
    WorkerGroupConfig,
)
from hifidata.core.base_config import BaseConfig
from hifidata.core.errors import RecipeError
from hifidata.models import registry
from hifidata.models.config import SERVER_MANNERS, ModelFileConfig
from hifidata.models.custom_file import noted

STAGE_NAMES = (
    "intake", "detect", "crop", "quality", "watermark", "occlusion", "embed",
    "dedup", "verify", "restore", "matting", "face3d", "landmarks", "attributes", "caption",
)  # fmt: skip
"""Stages in the order in which they run: the paper's, except that near-duplicates are judged before the identity, and only
verified pictures are restored (identity is judged on the unrestored face either way)."""

WITHOUT_EFFECT = ("executor", "fetch", "failures", "groups", "description", "weights", "licence_policy")
"""Sections by which no picture, row or shard becomes another: a dataset may go on with others."""


class Recipe(BaseConfig):
    """A whole recipe. ``groups`` empty means: all stages in one group."""

    name: str
    description: str = ""
    source: SourceConfig
    fetch: FetchConfig = FetchConfig()
    intake: IntakeConfig = IntakeConfig()
    detect: DetectConfig = DetectConfig()
    crop: CropConfig = CropConfig()
    quality: QualityConfig = QualityConfig()
    watermark: WatermarkConfig = WatermarkConfig()
    occlusion: OcclusionConfig = OcclusionConfig()
    restore: RestoreConfig = RestoreConfig()
    matting: MattingConfig = MattingConfig()
    dedup: DedupConfig = DedupConfig()
    verify: VerifyConfig = VerifyConfig()
    face3d: Face3DConfig = Face3DConfig()
    landmarks: LandmarksConfig = LandmarksConfig()
    attributes: AttributesConfig = AttributesConfig()
    caption: CaptionConfig = CaptionConfig()
    output: OutputConfig = OutputConfig()
    failures: FailuresConfig = FailuresConfig()
    weights: WeightsConfig = WeightsConfig()
    licence_policy: Literal["permissive", "research"] = Field(
        "research", description="permissive refuses models whose licence does not allow commercial use, by name"
    )
    executor: ExecutorConfig = ExecutorConfig()
    groups: tuple[WorkerGroupConfig, ...] = ()

    @model_validator(mode="after")
    def _groups_cover_the_stages(self) -> Recipe:
        listed = tuple(stage for group in self.groups for stage in group.stages)
        if self.groups and listed != STAGE_NAMES:
            raise ValueError(f"groups must list every stage once and in order: {', '.join(STAGE_NAMES)}; got {listed}")
        return self

    @model_validator(mode="after")
    def _landmarks_have_a_source(self) -> Recipe:
        if self.landmarks.model == "face3d" and self.face3d.model is None:
            raise ValueError("landmarks.model is face3d, but face3d.model is null; set it to tddfa or mesh")
        return self

    @model_validator(mode="after")
    def _restoration_makes_sense(self) -> Recipe:
        if self.restore.model is None:
            return self
        if getattr(self.source, "already_restored", False):
            raise ValueError(
                "restore.model is set for a source that says already_restored: true; set restore.model to null"
            )
        if self.verify.model is None:
            raise ValueError("restore.model needs verify.model: its embedder judges whether the face stayed the same")
        return self

    @property
    def worker_groups(self) -> tuple[WorkerGroupConfig, ...]:
        """The groups to run: the recipe's, or one that holds every stage."""
        groups = self.groups or (WorkerGroupConfig.model_validate({"name": "all", "stages": STAGE_NAMES}),)
        if self.executor.use_gpus:
            return groups
        return tuple(group.model_copy(update={"num_gpus": 0.0}) for group in groups)

    @property
    def hash(self) -> str:
        """Hex sha256 of what the output is made by; where it runs, how it is fetched and how many may fail are not."""
        manners = {"source": {"pause_s", "key_env", "base_urls"}, "caption": {"server": set(SERVER_MANNERS)}}
        own_files = {
            name: {"file"} for name in ("detect", "quality", "verify")
        }  # their hashes count, wherever they lie
        left_out: Any = {**dict.fromkeys(WITHOUT_EFFECT, True), **manners, **own_files}
        content = self.model_dump(mode="json", exclude=left_out)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies ``--set key=value`` overrides.

    Args:
        path: YAML file.
        overrides: ``section.key=value`` strings; the value is read as YAML.

    Raises:
        RecipeError: the file is missing, is not YAML, or a key or value is wrong; names the nearest valid key.
    """
    return resolve(read_recipe(path, overrides), where=f"recipe {path}")


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a recipe's file says, with overrides applied, unchecked; raises like ``load_recipe`` where it cannot be read."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _OneOfEachKey)
    except FileNotFoundError:
        raise RecipeError(f"recipe {path}: no such file; recipes of the project are in pipelines/") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"recipe {path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"recipe {path}: expected a mapping of sections, got {type(data).__name__}")
    return apply_overrides(data, overrides)


class _OneOfEachKey(yaml.SafeLoader):
    """YAML in which a key that comes twice is an error: the first of two thresholds would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping; raises ConstructorError where a key comes twice."""
        seen = set[str]()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands there twice", key.start_mark)
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of ``data`` with every ``section.key=value`` set; raises RecipeError where one is not of that form."""
    result: dict[str, Any] = json.loads(json.dumps(data, default=str))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {override}: expected section.key=value, for example quality.min_score=0.6")
        *parents, last = key.strip().split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise RecipeError(f"--set {override}: {parent} is a value, not a section")
        try:
            node[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {override}: value is not YAML: {' '.join(str(error).split())}") from error
    return result


def resolve(data: Mapping[str, Any], where: str) -> Recipe:
    """A recipe to run; raises RecipeError with every problem on its own line."""
    return _with_model_defaults(validate(data, where), where)


def validate(data: Mapping[str, Any], where: str) -> Recipe:
    """Checks keys and values alone, none of the files that they name; raises like ``resolve``."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        problems = "\n".join(f"{where}: {_explain(item)}" for item in error.errors())
        raise RecipeError(problems) from None


def _with_model_defaults(recipe: Recipe, where: str) -> Recipe:
    """Fills thresholds left null with the named model's own; raises RecipeError for a model that does not exist."""
    filled: dict[str, BaseConfig] = {}
    models: dict[str, str] = {}
    for stage in registry.BY_STAGE:
        section: Any = getattr(recipe, stage)
        try:
            backend = registry.chosen(stage, section)
            file_facts = noted(stage, section) if isinstance(section, ModelFileConfig) else {}
        except RecipeError as error:
            raise RecipeError(f"{where}: {error}") from None
        if backend is None:
            continue
        models[stage], defaults = section.model, backend.defaults or {}
        filled[stage] = section.model_copy(
            update={**file_facts, **{key: value for key, value in defaults.items() if getattr(section, key) is None}}
        )
    try:
        registry.check_landmarks(models, recipe.landmarks.model)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    return recipe.model_copy(update=filled)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], without: Container[str] = ()) -> list[str]:
    """``key: old -> new`` for every leaf in which two resolved recipes differ, some sections left out."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, ...) != after.get(key, ...) and key.partition(".")[0] not in without
    ]


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _explain(item: Any) -> str:
    # A discriminated union puts its tag into the location ("source", "folder", "pth"); the YAML has no such level.
    keys = [part for position, part in enumerate(item["loc"]) if not (position == 1 and part in SOURCE_KINDS)]
    location = ".".join(str(part) for part in keys) or "recipe"
    if item["type"] == "extra_forbidden":
        known = sorted(_fields_at(item["loc"][:-1]))
        close = difflib.get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
        return f"{location}: unknown key; {hint}"
    got = "" if isinstance(item.get("input"), dict) else f", got {item.get('input')!r}"
    return f"{location}: {item['msg'].removeprefix('Value error, ')}{got}"


def _fields_at(location: Sequence[int | str]) -> set[str]:
    models: list[type[BaseModel]] = [Recipe]
    for part in location:
        if part in SOURCE_KINDS:
            models = [SOURCE_KINDS[str(part)]]
        elif isinstance(part, str):
            models = [found for model in models for found in _models_in(model.model_fields[part].annotation)]
    return {name for model in models for name in model.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]
