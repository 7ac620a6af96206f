"""Generate the reference pages from the code: ``python -m docs.reference`` (or ``make docs``).

docs/recipes.md comes from the recipe's pydantic models, the tables of manifests/README.md from what the stages declare, and the
files in docs/extending.md from the package that the tests install.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hifidata.config.recipe import Recipe
from hifidata.config.sources import SOURCE_KINDS
from hifidata.core.reasons import MODEL_ERROR
from hifidata.core.schema import IDENTITY_COLUMNS, SOURCE_COLUMNS, THUMBNAIL_COLUMNS, VERDICT_COLUMNS, Column
from hifidata.stages.table import DECLARED

ROOT = Path(__file__).resolve().parents[1]
RECIPES, MANIFESTS = ROOT / "docs" / "recipes.md", ROOT / "manifests" / "README.md"
EXTENDING = ROOT / "docs" / "extending.md"

_HEAD = """\
# Recipe reference

A recipe is one YAML file. This page lists every key with its type, default and meaning. `python -m docs.reference` writes it
from the code. `hifidata recipes list` names the recipes of the package; `hifidata recipes copy folder` copies one, to change it.
`--set section.key=value` overrides a key for one run.

A dot separates a section from a key inside it: `server.model` is the key `model` of the section `server`. A threshold with
the default `null` has the default of the model; `hifidata plan RECIPE` shows it. "Paper" refers to HiFi-Portrait, section 3.4.

The tables in [registry.py](../hifidata/models/registry.py) list the models of each section. The error for an unknown model lists
them, too: `hifidata plan folder --set quality.model=list`.
"""


def recipes_page() -> str:
    """Return the text of docs/recipes.md."""
    parts = [_HEAD, "## The recipe\n", _table(_plain_fields(Recipe))]
    for kind, model in SOURCE_KINDS.items():
        parts += [f"## source, kind: {kind}\n", _about(model), _table(_fields(model))]
    for name, field in Recipe.model_fields.items():
        models = _models_in(field.annotation)
        if name not in ("source", "extensions", "extension_sections") and models:
            is_list = get_origin(field.annotation) is tuple
            about = ("A list. An entry: " if is_list else "") + _about(models[0])
            parts += [f"## {name}\n", about, _table(_fields(models[0]))]
    return "\n".join(parts)


def manifests_page() -> str:
    """Return the text of manifests/README.md with new tables."""
    text = MANIFESTS.read_text(encoding="utf-8")
    for name, lines in (
        ("images", _image_columns()), ("identities", _columns(IDENTITY_COLUMNS)), ("thumbnails", _columns(THUMBNAIL_COLUMNS)),
        ("reasons", _reasons()),
    ):  # fmt: skip
        begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        block = "\n".join([begin, *lines, end])
        text = re.sub(f"{begin}.*?{end}", lambda _, block=block: block, text, flags=re.DOTALL)
    return text


def extending_page() -> str:
    """Return the text of docs/extending.md with its files written anew."""

    def with_file(found: re.Match[str]) -> str:
        text = (ROOT / found["path"]).read_text(encoding="utf-8").rstrip()
        return f"{found['mark']}{found['fence']}\n{text}\n```"

    pattern = r"(?P<mark><!-- file: (?P<path>\S+) -->\n)(?P<fence>```\w+)\n.*?```"
    return re.sub(pattern, with_file, EXTENDING.read_text(encoding="utf-8"), flags=re.DOTALL)


def _image_columns() -> Iterator[str]:
    yield from ("| column | type | unit | stage | meaning |", "|---|---|---|---|---|")
    groups = [("source", SOURCE_COLUMNS), *((stage.name, stage.columns) for stage in DECLARED), ("", VERDICT_COLUMNS)]
    for stage, columns in groups:
        for column in columns:
            yield _row(f"`{column.name}`", f"`{column.type}`", column.unit, stage, _escaped(column.meaning))


def _columns(columns: Iterable[Column]) -> Iterator[str]:
    yield from ("| column | type | unit | meaning |", "|---|---|---|---|")
    yield from (_row(f"`{c.name}`", f"`{c.type}`", c.unit, _escaped(c.meaning)) for c in columns)


def _reasons() -> Iterator[str]:
    yield from ("| reason | stage | status | meaning | compared |", "|---|---|---|---|---|")
    for stage, reasons in [*((stage.name, stage.reasons) for stage in DECLARED), ("any", (MODEL_ERROR,))]:
        for reason in reasons:
            limit = reason.limit
            compared = f"`{limit.column}` {limit.drops} `{limit.setting}`" if limit else ""
            status = "failed" if reason.failed else "dropped"
            yield _row(f"`{reason}`", stage, status, _escaped(reason.sentence), compared)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Escape characters that Markdown reads as a tag or as the end of a cell."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def _about(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split()) + "\n"


def _plain_fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    return ((name, field) for name, field in model.model_fields.items() if not _models_in(field.annotation))


_FIRST, _LAST = ("kind", "model"), ("file", "file_sha256", "folder", "normalisation", "options")
"""Keys that the table of a source or stage lists first and last. pydantic lists the keys of base classes first."""


def _rank(name: str) -> int:
    return (name in _LAST) - (name in _FIRST)


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    has_order = not prefix and any(name in model.model_fields for name in _FIRST)
    for name, field in sorted(model.model_fields.items(), key=lambda item: _rank(item[0]) if has_order else 0):
        inner = _models_in(field.annotation)
        if inner:
            yield from _fields(inner[0], f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _table(fields: Iterable[tuple[str, FieldInfo]]) -> str:
    rows = [_row(f"`{name}`", _type(f), _default(f), _escaped(f.description or "")) for name, f in fields]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def _type(field: FieldInfo) -> str:
    limits = [
        f"{sign} {getattr(item, name)}" for item in field.metadata for name, sign in _LIMITS if hasattr(item, name)
    ]
    return _type_words(field.annotation) + (f", {', '.join(limits)}" if limits else "")


_LIMITS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
_WORDS = {str: "text", bool: "true or false", int: "whole number", float: "number", type(None): "null", Any: "any"}


def _type_words(annotation: Any) -> str:
    arguments: Sequence[Any] = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_type_words, arguments))
    if origin in (tuple, frozenset):
        return f"list of {_type_words(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type_words(arguments[0])} to {_type_words(arguments[1])}"
    return _WORDS.get(annotation, getattr(annotation, "__name__", "text"))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None or isinstance(value, bool):
        return {None: "`null`", True: "`true`", False: "`false`"}[value]
    if isinstance(value, (tuple, frozenset)):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`" if value != "" else ""


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]


def main() -> None:
    """Write the pages."""
    RECIPES.write_text(recipes_page(), encoding="utf-8")
    MANIFESTS.write_text(manifests_page(), encoding="utf-8")
    EXTENDING.write_text(extending_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
