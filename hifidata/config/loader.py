"""Reading of YAML configuration files, and ``key=value`` overrides, for hifidata's recipes and hifimodel's presets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hifidata.core.base_config import MAX_SHOWN_CHARS
from hifidata.core.errors import UsageError
from hifidata.core.filenames import escaped
from hifidata.core.messages import one_line

MAX_BYTES = 2**20
MAX_NODES = 100_000
"""Values of a file with all its aliases written out."""
MAX_DEPTH = 50
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, OverflowError)
"""PyYAML also raises the errors of Python's conversions, for example for the date 2024-13-45."""


class _UniqueKeys(yaml.SafeLoader):
    """YAML loader that refuses repeated keys. PyYAML would silently ignore the first of two thresholds."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build the mapping. Raises ConstructorError if a key is repeated, or is no text, number or bool."""
        seen = set[str]()
        for key, _ in node.value:
            if not isinstance(key.value, str):
                raise yaml.constructor.ConstructorError(None, None, "a key is no text", key.start_mark)
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} is repeated", key.start_mark)
            seen.add(key.value)
        found = super().construct_mapping(node, deep)
        if any(not isinstance(key, (str, int, float, bool, type(None))) for key in found):
            raise yaml.constructor.ConstructorError(None, None, "a key is no text", node.start_mark)
        return found


def _load(text: str) -> Any:
    """Return the value of a YAML document. Raises ``_YAML_ERRORS``, also if it is too deep, or its aliases make it too large."""
    parser = _UniqueKeys(text)
    try:
        node = parser.get_single_node()
        if node is None:
            return None
        _require_small(node)
        return parser.construct_document(node)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    finally:
        parser.dispose()


def _require_small(root: yaml.Node) -> None:
    sizes: dict[int, tuple[int, int]] = {}  # values and levels of each node, with aliases written out
    open_nodes: set[int] = set()

    def measure(node: yaml.Node) -> tuple[int, int]:
        """Return the number of values in a node, and its number of levels."""
        if id(node) in open_nodes:
            raise ValueError("an alias contains itself")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            inner = [] if isinstance(node, yaml.ScalarNode) else node.value
            parts = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
            measured = [measure(part) for part in parts]
            sizes[id(node)] = (1 + sum(n for n, _ in measured), 1 + max((depth for _, depth in measured), default=0))
            open_nodes.discard(id(node))
        return sizes[id(node)]

    n_values, depth = measure(root)
    if n_values > MAX_NODES:
        raise ValueError(f"{n_values:.3g} values, at most {MAX_NODES} are read; its aliases repeat too much")
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


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
        data = _load(text)
    except _YAML_ERRORS as problem:
        raise error(f"{where}: cannot be read as YAML: {one_line(problem)}") from problem
    if not isinstance(data, dict):
        raise error(f"{where}: expected a mapping of sections, got {type(data).__name__}")
    return data


def read_yaml(path: Path, where: str, error: type[UsageError]) -> dict[str, Any]:
    """Read a YAML mapping from a file. Raises ``error`` if the file cannot be read, and as ``parse_yaml``."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode()
    except FileNotFoundError:
        raise error(f"{where}: no such file") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"{where}: cannot be read as YAML: {one_line(problem)}") from problem
    if len(content) > MAX_BYTES:
        raise error(f"{where}: longer than {MAX_BYTES} bytes; expected a file of settings")
    return parse_yaml(text, where, error)


def apply_overrides(
    data: Mapping[str, Any], overrides: Sequence[str], error: type[UsageError], example: str
) -> dict[str, Any]:
    """Return a copy of ``data`` with all overrides applied.

    Args:
        data: mapping of sections.
        overrides: ``section.key=value`` strings; the value is parsed as YAML. A value with characters that YAML does not
            have, such as bytes of a file name that are not UTF-8, is taken as it is.
        error: class to raise.
        example: a valid override, for the message.

    Raises:
        UsageError: an override does not have this form.
    """
    result: dict[str, Any] = json.loads(json.dumps(data, default=str))
    for override in overrides:
        key, equals, value = override.partition("=")
        override = override if len(override) <= MAX_SHOWN_CHARS else f"{override[:MAX_SHOWN_CHARS]}..."
        if not equals or not key.strip():
            raise error(f"--set {override}: expected section.key=value, for example {example}")
        if escaped(key) != key:
            raise error(f"--set {override}: the key is not valid Unicode; expected a key such as in {example}")
        *parents, last = key.strip().split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise error(f"--set {override}: {parent} is a value, not a section")
        try:
            node[last] = _load(value)
        except yaml.reader.ReaderError:
            node[last] = value
        except _YAML_ERRORS as problem:
            raise error(f"--set {override}: the value is not YAML: {one_line(problem)}") from problem
    return result
