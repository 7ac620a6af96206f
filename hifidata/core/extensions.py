"""Classes of other packages. A recipe names them as ``package.module:Class`` or by an entry point."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import pkgutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from hifidata.core.errors import RecipeError
from hifidata.core.suggest import suggestion

MODELS, STAGES = "hifidata.models", "hifidata.stages"
"""Groups of entry points."""


@dataclass(frozen=True)
class Origin:
    """Origin of a class.

    Attributes:
        path: ``package.module:Class``.
        package: distribution that contains the class; without a distribution, its top-level module.
        version: version of the distribution; without a distribution, ``sha256:`` and the hash of the module's source file.
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
            f"{key}: the group {group} has no entry point {name!r}; install the package that provides the entry point; "
            f"{suggestion(name, entry_points(group), 'installed')}"
        )
    module = _module(module_name, f"{key}: cannot import {module_name} for {name}")
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise RecipeError(
            f"{key}: {module_name} has no class {class_name!r}; expected package.module:Class; "
            f"{suggestion(class_name, classes, 'its classes')}"
        )
    return found


def _module(name: str, problem: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        parent, _, last = name.rpartition(".")
        if error.name == name and parent in sys.modules:  # the parent was imported, so its package is installed
            inside = [found.name for found in pkgutil.iter_modules(getattr(sys.modules[parent], "__path__", ()))]
            raise RecipeError(
                f"{problem}: {parent} has no module {last!r}; {suggestion(last, inside, 'it has')}"
            ) from error
        raise RecipeError(f"{problem} ({error}); install its package in this environment") from error
    except Exception as error:  # code of another package may raise anything
        text = " ".join(str(error).split())
        raise RecipeError(f"{problem}: {type(error).__name__}: {text}; correct the module") from error


def entry_points(group: str) -> dict[str, str]:
    """Return ``package.module:Class`` by name for all entry points of a group in the installed packages."""
    return {point.name: point.value for point in importlib.metadata.entry_points(group=group)}


def origin_of(kind: type[Any]) -> Origin:
    """Return the installed package that contains a class."""
    path = f"{kind.__module__}:{kind.__qualname__}"
    file = getattr(sys.modules[kind.__module__], "__file__", None)
    top = kind.__module__.partition(".")[0]
    found = _distribution_of(top, None if file is None else Path(file).resolve())
    if found is not None:
        return Origin(path, found.name, found.version)
    return Origin(path, top, "" if file is None else f"sha256:{hashlib.sha256(Path(file).read_bytes()).hexdigest()}")


@cache
def _distribution_of(top: str, file: Path | None) -> importlib.metadata.Distribution | None:
    """Return the distribution that contains a module's file. An editable install has the file in its source folder."""
    for name in importlib.metadata.packages_distributions().get(top, []):
        found = importlib.metadata.distribution(name)
        if file is None or found.files is None:
            return found
        same_name = (part for part in found.files if part.name == file.name)
        if any(Path(str(found.locate_file(part))).resolve() == file for part in same_name):
            return found
    roots = {root: found for found in importlib.metadata.distributions() if (root := _editable_root(found)) is not None}
    around = [root for root in roots if file is not None and file.is_relative_to(root)]
    return roots[max(around, key=lambda root: len(root.parts))] if around else None


def _editable_root(found: importlib.metadata.Distribution) -> Path | None:
    """Return the source folder of an editable install (``direct_url.json``, PEP 610); None for other installs."""
    record = json.loads(found.read_text("direct_url.json") or "{}")
    if not record.get("dir_info", {}).get("editable"):
        return None
    return Path(url2pathname(urlsplit(record["url"]).path)).resolve()
