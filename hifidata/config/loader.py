"""Reading of YAML configuration files, and ``key=value`` overrides, for hifidata's recipes and hifimodel's presets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hifidata.core.errors import UsageError


class _UniqueKeys(yaml.SafeLoader):
    """YAML loader that refuses repeated keys. PyYAML would silently ignore the first of two thresholds."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build the mapping. Raises ConstructorError if a key is repeated."""
        seen = set[str]()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} is repeated", key.start_mark)
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str, error: type[UsageError]) -> dict[str, Any]:
    """Parse a YAML mapping.

    Args:
        text: YAML.
        where: file or other origin, for the message.
        error: class to raise.

    Raises:
        UsageError: the text is not YAML, or not a mapping.
    """
    try:
        data = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as problem:
        raise error(f"{where}: cannot be read as YAML: {' '.join(str(problem).split())}") from problem
    if not isinstance(data, dict):
        raise error(f"{where}: expected a mapping of sections, got {type(data).__name__}")
    return data


def read_yaml(path: Path, where: str, error: type[UsageError]) -> dict[str, Any]:
    """Read a YAML mapping from a file. Raises ``error`` if the file cannot be read, and as ``parse_yaml``."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error(f"{where}: no such file") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"{where}: cannot be read as YAML: {' '.join(str(problem).split())}") from problem
    return parse_yaml(text, where, error)


def apply_overrides(
    data: Mapping[str, Any], overrides: Sequence[str], error: type[UsageError], example: str
) -> dict[str, Any]:
    """Return a copy of ``data`` with all overrides applied.

    Args:
        data: mapping of sections.
        overrides: ``section.key=value`` strings; the value is parsed as YAML.
        error: class to raise.
        example: a valid override, for the message.

    Raises:
        UsageError: an override does not have this form.
    """
    result: dict[str, Any] = json.loads(json.dumps(data, default=str))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise error(f"--set {override}: expected section.key=value, for example {example}")
        *parents, last = key.strip().split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise error(f"--set {override}: {parent} is a value, not a section")
        try:
            node[last] = yaml.safe_load(value)
        except yaml.YAMLError as problem:
            raise error(f"--set {override}: the value is not YAML: {' '.join(str(problem).split())}") from problem
    return result
