"""Declarations of a model that are known before it is loaded, for models of hifidata and of other packages."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hifidata.core.base_config import BaseConfig
from hifidata.core.errors import RecipeError
from hifidata.core.extensions import Origin, origin_of
from hifidata.core.reasons import Reason
from hifidata.core.schema import ARROW_TYPES, Column
from hifidata.models.requirements import Extra
from hifidata.weights.catalogue import Weight, entry


@dataclass(frozen=True)
class ModelSpec:
    """A model that a recipe can name.

    Attributes:
        path: ``module:Class``.
        licence: licence of the weights.
        defaults: values of this model for recipe keys that are null.
        thresholds_from: origin of ``defaults``, or of the thresholds in the model's code or in the recipe's defaults.
        files: model files: names of catalogue entries, or the model's own entries. The class gets their paths in this order.
        commercial: whether the licence of files in an installed package allows commercial use; catalogue entries state it
            themselves. None: unknown.
        landmarks: ``gives``: a detector that gives 68 landmarks. ``needs``: a later model that needs them.
        takes_config: whether the class gets the recipe's section after the paths.
        max_score: highest score of a detector; None: unknown.
        extra: optional packages of the model.
        columns: manifest columns of a model of another package, in addition to the columns of its stage.
        reasons: reasons that the ModelError of a model of another package may have.
        options: type of the section's ``options``, for models of other packages. The class gets them after the paths.
        uses_onnx_runtime: whether ONNX Runtime runs the model, on the device that ``runtime.device`` selects.
        origin: package of the model; None for hifidata.
    """

    path: str
    licence: str
    defaults: Mapping[str, float | int] | None = None
    thresholds_from: str = ""
    files: tuple[str | Weight, ...] = ()
    commercial: bool | None = None
    landmarks: Literal["gives", "needs"] | None = None
    takes_config: bool = False
    max_score: float | None = None
    extra: Extra | None = None
    columns: tuple[Column, ...] = ()
    reasons: tuple[Reason, ...] = ()
    options: type[BaseConfig] | None = None
    uses_onnx_runtime: bool = False
    origin: Origin | None = None

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Catalogue entries of the files."""
        return tuple(entry(file) if isinstance(file, str) else file for file in self.files)


def spec_of(kind: type[Any], method: str, n_arguments: int, key: str) -> ModelSpec:
    """Build the spec of a model class of another package from its declarations.

    Args:
        kind: the class; ``docs/extending.md`` lists its attributes.
        method, n_arguments: method that the class must have, and its number of arguments.
        key: recipe key for messages.

    Raises:
        RecipeError: the class does not fit the stage, or its declarations are incomplete.
    """
    where = f"{key}: {kind.__module__}:{kind.__qualname__}"
    require_method(kind, method, n_arguments, where)
    for name, wanted in (("name", str), ("licence", str)):
        if not isinstance(getattr(kind, name, None), wanted):
            raise RecipeError(f'{where}: has no attribute {name}; add `{name} = "..."` to the class')
    options = getattr(kind, "Config", None)
    if options is not None and not (isinstance(options, type) and issubclass(options, BaseConfig)):
        raise RecipeError(f"{where}: Config must derive from hifidata.core.base_config.BaseConfig")
    origin = origin_of(kind)
    return ModelSpec(
        origin.path,
        kind.licence,
        defaults=dict(getattr(kind, "defaults", {})),
        thresholds_from=getattr(kind, "thresholds_from", ""),
        files=declared_files(kind, where),
        commercial=getattr(kind, "commercial", None),
        landmarks=getattr(kind, "landmarks", None),
        max_score=getattr(kind, "max_score", None),
        columns=declared_columns(kind, where),
        reasons=declared_reasons(kind, where),
        options=options,
        uses_onnx_runtime=bool(getattr(kind, "uses_onnx_runtime", False)),
        origin=origin,
    )


def stage_spec(kind: type[Any]) -> ModelSpec:
    """Build the spec of a stage of another package; ``stages.table`` checks its declarations."""
    origin = origin_of(kind)
    return ModelSpec(
        origin.path, getattr(kind, "licence", ""), files=tuple(getattr(kind, "files", ())),
        commercial=getattr(kind, "commercial", None), columns=tuple(getattr(kind, "columns", ())),
        reasons=tuple(getattr(kind, "reasons", ())), origin=origin,
    )  # fmt: skip


def require_method(kind: type[Any], name: str, n_arguments: int, where: str) -> None:
    """Check that a class has a method with a number of arguments. Raises RecipeError."""
    method = getattr(kind, name, None)
    if not callable(method):
        raise RecipeError(f"{where}: has no method {name}; see docs/extending.md")
    try:
        inspect.signature(method).bind(None, *[None] * n_arguments)
    except TypeError:
        raise RecipeError(
            f"{where}: {name} cannot be called with {n_arguments} argument{'s' * (n_arguments > 1)}; see docs/extending.md"
        ) from None


def declared_columns(kind: type[Any], where: str) -> tuple[Column, ...]:
    """Return the manifest columns of a class. Raises RecipeError if a column is invalid."""
    columns = tuple(getattr(kind, "columns", ()))
    for column in columns:
        if not isinstance(column, Column) or column.type not in ARROW_TYPES or not column.name.isidentifier():
            raise RecipeError(f"{where}: columns: {column!r} is not a Column with a type of {', '.join(ARROW_TYPES)}")
    return columns


def declared_reasons(kind: type[Any], where: str) -> tuple[Reason, ...]:
    """Return the reasons of a class. Raises RecipeError if a reason is invalid."""
    reasons = tuple(getattr(kind, "reasons", ()))
    for reason in reasons:
        if not isinstance(reason, Reason) or not reason.isidentifier() or not reason.sentence:
            raise RecipeError(f"{where}: reasons: {reason!r} is not a Reason with a code, a label and a sentence")
    return reasons


def declared_files(kind: type[Any], where: str) -> tuple[str | Weight, ...]:
    """Return the model files of a class. Raises RecipeError if a file is not a Weight or has no sha256."""
    files = tuple(getattr(kind, "files", ()))
    for file in files:
        if not isinstance(file, (str, Weight)):
            raise RecipeError(f"{where}: files: {file!r} is not a Weight; see hifidata.weights.catalogue")
        if isinstance(file, Weight) and not file.is_folder and not file.sha256:
            raise RecipeError(
                f"{where}: files: {file.file} has no sha256; add it, so that all machines run the same file"
            )
    return files
