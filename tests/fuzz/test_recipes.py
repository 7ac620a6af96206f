"""Any recipe and any override is loaded, or refused in messages of one line each, within bounds of time and memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hifidata.config.recipe import load_recipe
from hifidata.core.errors import RecipeError
from tests.conftest import PROJECT_ROOT
from tests.fuzz.bounded import damaged, fuzz, require_one_line

BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))])
MERGES = "\n".join(["a0: &a0 {k: v}", *(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], k{n}: v}}" for n in range(1, 60))])
HOSTILE = {
    "aliases": BOMB, "merges": MERGES, "deep": "[" * 100_000, "deep blocks": "\n".join(" " * n + "a:" for n in range(1000)),
    "itself": "a: &a [*a]", "date": "name: 2024-13-45", "date as key": "2024-01-01: x", "list as key": "? [a, b]\n: c",
    "mapping as key": "{{a: b}: c}", "empty int": "name: !!int ''", "bool": "name: !!bool x", "binary": "name: !!binary x",
    "binary key": "!!binary aGk=: x", "python": "name: !!python/object/apply:os.system [ls]", "set": "source: !!set {a, b}",
    "omap": "source: !!omap [a: b]", "digits": "name: " + "9" * 5000, "4000 digits": "executor: {workers: " + "9" * 4000 + "}",
    "sexagesimal": "executor: {workers: 1:99:99}", "null key": "null: x", "true key": "source: {true: x}", "numbers": "1: {2: 3}",
    "long key": "k" * 500_000 + ": x", "long value": "name: " + "x" * 900_000, "list": "[]", "nothing": "", "two": "a: 1\n---\nb: 2",
    "control": 'name: "\\u001b[31m"\n"\\u001b": x', "surrogate": 'name: "\\ud800"', "source list": "source: [a]", "stages": "stages: {a: b}",
    "nan": "quality: {min_score: .nan}", "tab": "a:\t- b", "tag": "name: !x y", "anchor": "*a", "stages name": "stages: [{use: a, after: b}]",
    "two megabytes": "# " + "x" * 2**21,
}  # fmt: skip
VALUES = (
    "[" * 10_000, "{" * 10_000, "&a [*a]", "2024-13-45", "!!int ''", "{2024-01-01: x}", "9" * 5000, "\x1b", "\udce9", "*a", "'", "[1, 2]",
    "{a: 1, a: 2}", "null", ".nan", "? x", "!!python/name:os.system", "1" * 400,
)  # fmt: skip
TOKENS = (
    b"&a ",
    b"*a",
    b"<<: ",
    b"? ",
    b"[",
    b"{",
    b": ",
    b"- ",
    b"!!int ",
    b"!!set ",
    b"\n---\n",
    b"\t",
    b"|",
    b">-\n",
    b"%YAML 9\n",
    b"\xff",
)
RECIPES = [path.read_bytes() for path in sorted((PROJECT_ROOT / "pipelines").glob("*.yaml"))]


def load(path: Path, *overrides: str) -> None:
    """Load a recipe. Any exception but a RecipeError of printable lines fails the test."""
    try:
        load_recipe(path, overrides).to_json().encode()
    except RecipeError as error:
        for line in str(error).split("\n")[:50]:
            require_one_line(ValueError(line))


def any_recipe(rng: random.Random, folder: Path) -> None:
    """Damage a bundled recipe, or override one of its keys by an odd value, and load it."""
    path = folder / "r.yaml"
    data = rng.choice(RECIPES)
    if rng.random() < 0.3:
        path.write_bytes(data)
        key = rng.choice(
            (
                "name",
                "source",
                "source.path",
                "crop.output_px",
                "executor.workers",
                "caption.server.extra",
                "groups",
                "x.y",
            )
        )
        load(path, f"{key}={rng.choice(VALUES)}")
    else:
        path.write_bytes(damaged(rng, data, TOKENS))
        load(path)


def hostile_recipes(rng: random.Random, folder: Path) -> None:
    """Load each recipe of ``HOSTILE``."""
    for name, text in HOSTILE.items():
        print(name, flush=True)
        path = folder / "r.yaml"
        path.write_text(text)
        load(path)
        load(path, "name=x", "source={kind: folder, path: x}")


def test_any_recipe_is_loaded_or_refused() -> None:
    fuzz(any_recipe, 120)


def test_hostile_recipes_are_loaded_or_refused() -> None:
    fuzz(hostile_recipes, 1)


@pytest.mark.parametrize(
    "name", ["aliases", "merges", "deep", "itself", "date", "date as key", "empty int", "digits", "two megabytes"]
)
def test_a_hostile_recipe_is_refused_with_its_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(HOSTILE[name])
    with pytest.raises(RecipeError, match=r"r\.yaml: (cannot be read as YAML|longer than)") as caught:
        load_recipe(path)
    require_one_line(caught.value)
