"""Queries and snippets of the documentation work on a dataset; generated pages match the code; links exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import reference
from hifidata.run.run import RunOptions, run
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE

README = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
MANIFESTS = (PROJECT_ROOT / "manifests" / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def dataset(twelve_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hifidata.config.recipe import load_recipe

    out = tmp_path_factory.mktemp("docs") / "out"
    recipe = load_recipe(PROJECT_ROOT / "pipelines" / "folder.yaml", [f"source.path={twelve_people}", *QUICK_RECIPE])
    run(recipe, RunOptions(out, limit=3), lambda progress: None)
    return out


@pytest.mark.parametrize("query", blocks(README, "sql") + blocks(MANIFESTS, "sql"))
def test_every_sql_query_of_the_docs_runs(query: str, dataset: Path) -> None:
    import duckdb

    text = query.replace("datasets/demo/", f"{dataset}/").replace("OUT/", f"{dataset}/")
    for statement in filter(str.strip, text.split(";")):
        duckdb.sql(statement).fetchall()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset leaves its file to the collector
@pytest.mark.parametrize("code", blocks(README, "python"))
def test_every_python_snippet_of_the_readme_finds_rows(code: str, dataset: Path) -> None:
    import glob

    import pandas as pd
    import webdataset as wds

    found = eval(code.strip().replace("datasets/demo/", f"{dataset}/"), {"glob": glob, "pd": pd, "wds": wds})
    assert len(list(found)) > 0


def test_generated_pages_match_the_code() -> None:
    remedy = "run `make docs`"
    assert reference.RECIPES.read_text(encoding="utf-8") == reference.recipes_page(), remedy
    assert reference.MANIFESTS.read_text(encoding="utf-8") == reference.manifests_page(), remedy
    assert reference.EXTENDING.read_text(encoding="utf-8") == reference.extending_page(), remedy


def test_the_readme_lists_every_package_of_the_plan() -> None:
    plan = "ray insightface paddleocr paddleseg gfpgan transformers scikit-learn pyarrow webdataset requests torch diffusers accelerate pytest"
    rows = " ".join(line for line in README.splitlines() if line.startswith("| "))
    assert not [name for name in plan.split() if not re.search(rf"\b{name}\b", rows)]


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    found: list[str] = []
    for title in re.findall(r"^#{1,6} (.+)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE):
        text = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


def test_every_relative_link_of_the_docs_exists() -> None:
    for page in (page for folder in (".", "docs", "manifests") for page in PROJECT_ROOT.glob(f"{folder}/*.md")):
        text = page.read_text(encoding="utf-8")
        links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]+))?\)", text) + re.findall(
            r'src="(?!https?:)(.+?)()"', text
        )
        for path, anchor in links:
            target = page.parent / path if path else page
            assert target.exists(), f"{page.name}: {path}"
            assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), f"{page.name}: {path}#{anchor}"


def test_anchors_follow_the_rules_of_github() -> None:
    page = "# `a.b`: *What*, how?\n```bash\n# a comment\n```\n## [Links](x.md) of all_of\n### Twice\n### Twice\n"
    assert anchors(page) == {"ab-what-how", "links-of-all_of", "twice", "twice-1"}
