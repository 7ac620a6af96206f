"""Runs from names to shards, with search servers on loopback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hifidata.config.recipe import Recipe, load_recipe
from hifidata.run.run import RunOptions, run
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE
from tests.run.test_crawl import LOOPBACK
from tests.servers import search
from tests.servers.hostile import HostileServer
from tests.servers.search import DIALECTS, SearchServer, as_json

N_HITS = 4


@pytest.fixture
def images(twelve_people: Path, tmp_path: Path) -> Iterator[HostileServer]:
    """Serve ``/files/<provider>/<n>.jpg``."""
    folder = tmp_path / "web" / "openverse"
    folder.mkdir(parents=True)
    for number, photo in enumerate(sorted(twelve_people.glob("person_00/[0-9].jpg"))):
        shutil.copy(photo, folder / f"{number}.jpg")
    with HostileServer(files=tmp_path / "web") as server:
        yield server


@pytest.fixture
def engines(images: HostileServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[SearchServer]:
    """Serve search engines whose hits are URLs of the server ``images``."""
    monkeypatch.setattr(search, "picture", lambda provider, n: images.url(f"/files/{provider}/{n}.jpg"))
    with SearchServer() as server:
        server.n_hits["openverse"] = N_HITS
        yield server


def recipe_for(engines: SearchServer, names: Path) -> Recipe:
    quick = [*QUICK_RECIPE, *LOOPBACK, "fetch.keep_originals=true", f"source.names={names}"]
    bases = ", ".join(f"{name}: '{url}'" for name, url in engines.base_urls.items())
    pauses = ", ".join(f"{name}: 0" for name in DIALECTS)
    quick += [f"source.base_urls={{{bases}}}", f"source.pause_s={{{pauses}}}"]
    return load_recipe(PROJECT_ROOT / "pipelines" / "web.yaml", quick)


def rows_of(out: Path) -> list[dict[str, object]]:
    return list(pq.read_table(out / "manifests" / "images.parquet").to_pylist())


def test_a_name_is_searched_fetched_and_written_with_licence_and_provider(
    engines: SearchServer, tmp_path: Path
) -> None:
    (tmp_path / "names.txt").write_text("Ada Lovelace\nNobody Known\tno such thing\n")
    run(recipe_for(engines, tmp_path / "names.txt"), RunOptions(tmp_path / "out"), lambda progress: None)
    rows = rows_of(tmp_path / "out")
    assert {row["provider"] for row in rows if row["status"] == "kept"} == {"openverse"}
    assert all(
        row["licence"] and row["landing_page_uri"] and row["search_query"] for row in rows if row["status"] == "kept"
    )
    missing = [row["reason"] for row in rows if str(row["source_uri"]).endswith("/3.jpg")]
    assert missing == ["http_4xx", "http_4xx"], "the fourth hit of both names does not exist"
    identities = pq.read_table(tmp_path / "out" / "manifests" / "identities.parquet").to_pylist()
    assert {identity["identity_name"] for identity in identities} == {"Ada Lovelace", "Nobody Known"}


def test_a_finished_search_is_not_repeated_and_a_failed_search_is_repeated_by_retry(
    engines: SearchServer, tmp_path: Path
) -> None:
    (tmp_path / "names.txt").write_text("Ada Lovelace\n")
    recipe, out = recipe_for(engines, tmp_path / "names.txt"), tmp_path / "out"
    engines.bad_days["wikimedia_commons"] = [as_json({"error": "sorry"}, 403)]
    run(recipe, RunOptions(out), lambda progress: None)
    failed = [row for row in rows_of(out) if row["reason"] == "search_error"]
    assert [row["provider"] for row in failed] == ["wikimedia_commons"]
    asked = len(engines.asked)
    assert run(recipe, RunOptions(out), lambda progress: None).did_nothing
    assert len(engines.asked) == asked
    run(recipe, RunOptions(out, retry_failed=True), lambda progress: None)
    assert len(engines.queries("wikimedia_commons")) > 1
    assert not [row for row in rows_of(out) if row["reason"] == "search_error"]


def test_a_name_without_hits_gives_one_row(engines: SearchServer, tmp_path: Path) -> None:
    engines.n_hits["openverse"] = 0
    (tmp_path / "names.txt").write_text("Nobody Known\n")
    result = run(recipe_for(engines, tmp_path / "names.txt"), RunOptions(tmp_path / "out"), lambda progress: None)
    assert [row["reason"] for row in rows_of(tmp_path / "out")] == ["no_hits"]
    assert not result.over_budget
