"""Classes of other packages that a recipe names: ``package.module:Class``, or the name of an entry point."""

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
    """Where a class comes from.

    Attributes:
        path: ``package.module:Class``.
        package: the distribution that holds it; the top-level module where no distribution does.
        version: its version; empty where no distribution does.
    """

    path: str
    package: str
    version: str


def load_class(name: str, group: str, key: str) -> type[Any]:
    """Imports the class that a recipe names.

    Args:
        name: ``package.module:Class``, or an entry point of ``group``.
        group: ``MODELS`` or ``STAGES``.
        key: recipe key, for messages.

    Raises:
        RecipeError: there is no such entry point, module or class, or it is no class.
    """
    path = name if ":" in name else entry_points(group).get(name, "")
    module_name, _, class_name = path.partition(":")
    if not path:
        raise RecipeError(f"{key}: no entry point {name!r} of the group {group}; install the package that has it")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise RecipeError(
            f"{key}: cannot import {module_name} for {name} ({error}); install the package that holds it in this environment"
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise RecipeError(f"{key}: {module_name} has no class {class_name!r}; expected package.module:Class")
    return found


def entry_points(group: str) -> dict[str, str]:
    """``package.module:Class`` by name, of the installed packages' entry points."""
    return {point.name: point.value for point in importlib.metadata.entry_points(group=group)}


def origin_of(kind: type[Any]) -> Origin:
    """The installed package that a class comes from."""
    top = kind.__module__.partition(".")[0]
    names = importlib.metadata.packages_distributions().get(top, [])
    path = f"{kind.__module__}:{kind.__qualname__}"
    return Origin(path, names[0], importlib.metadata.version(names[0])) if names else Origin(path, top, "")
