"""Classes of other packages. A recipe names them as ``package.module:Class`` or by an entry point."""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass
from typing import Any

from hifidata.core.errors import RecipeError

MODELS, STAGES = "hifidata.models", "hifidata.stages"
"""Groups of entry points."""


@dataclass(frozen=True)
class Origin:
    """Origin of a class.

    Attributes:
        path: ``package.module:Class``.
        package: distribution that contains the class; without a distribution, its top-level module.
        version: version of the distribution; empty without a distribution.
    """

    path: str
    package: str
    version: str


def load_class(name: str, group: str, key: str) -> type[Any]:
    """Import the class that a recipe names.

    Args:
        name: ``package.module:Class``, or an entry point of ``group``.
        group: ``MODELS`` or ``STAGES``.
        key: recipe key, for messages.

    Raises:
        RecipeError: the entry point, module or class does not exist, or the name is not a class.
    """
    path = name if ":" in name else entry_points(group).get(name, "")
    module_name, _, class_name = path.partition(":")
    if not path:
        raise RecipeError(
            f"{key}: the group {group} has no entry point {name!r}; install the package that provides the entry point"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise RecipeError(
            f"{key}: cannot import {module_name} for {name} ({error}); install its package in this environment"
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise RecipeError(f"{key}: {module_name} has no class {class_name!r}; expected package.module:Class")
    return found


def entry_points(group: str) -> dict[str, str]:
    """Return ``package.module:Class`` by name for all entry points of a group in the installed packages."""
    return {point.name: point.value for point in importlib.metadata.entry_points(group=group)}


def origin_of(kind: type[Any]) -> Origin:
    """Return the installed package that contains a class."""
    top = kind.__module__.partition(".")[0]
    names = importlib.metadata.packages_distributions().get(top, [])
    path = f"{kind.__module__}:{kind.__qualname__}"
    return Origin(path, names[0], importlib.metadata.version(names[0])) if names else Origin(path, top, "")
