"""Configuration files: read YAML, and apply ``key=value`` overrides. Shared by hifidata's recipes and hifimodel's presets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hifidata.core.errors import UsageError


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a repeated key is an error: the first of two thresholds would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping; raises ConstructorError for a repeated key."""
        seen = set[str]()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} is repeated", key.start_mark)
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str, error: type[UsageError]) -> dict[str, Any]:
    """Parses a mapping.

    Args:
        text: YAML.
        where: file or other origin, for the message.
        error: class to raise.

    Raises:
        UsageError: the text is not YAML, or no mapping.
    """
    try:
        data = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as problem:
        raise error(f"{where}: cannot be read as YAML: {' '.join(str(problem).split())}") from problem
    if not isinstance(data, dict):
        raise error(f"{where}: expected a mapping of sections, got {type(data).__name__}")
    return data


def read_yaml(path: Path, where: str, error: type[UsageError]) -> dict[str, Any]:
    """Reads a mapping from a file; raises like ``parse_yaml``, and ``error`` where the file cannot be read."""
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
    """Sets every ``section.key=value`` in a copy.

    Args:
        data: mapping of sections.
        overrides: the value is read as YAML.
        error: class to raise.
        example: a valid override, for the message.

    Raises:
        UsageError: an override is not of that form.
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
            raise error(f"--set {override}: value is not YAML: {' '.join(str(problem).split())}") from problem
    return result
