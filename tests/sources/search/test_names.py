"""A list of names: read the way people write such lists, and turned into one search each."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from hifidata.config.recipe import load_recipe
from hifidata.core.errors import RecipeError, SourceError
from hifidata.fetch.config import FetcherConfig
from hifidata.run.plan import open_remote
from hifidata.sources.names import NamesSource
from hifidata.sources.search.config import SearchConfig
from hifidata.sources.search.providers import PROVIDERS
from tests.conftest import PROJECT_ROOT
from tests.servers.search import SearchServer, as_json, picture
from tests.sources.search.conftest import MakeSource, candidates

CONTACT = FetcherConfig(contact="crawl@example.org")


def listed(path: Path, data: str | bytes, **settings: Any) -> list[tuple[str, str]]:
    """Names and queries of a list."""
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    tasks = NamesSource(SearchConfig(names=str(path), **settings), CONTACT, {}).identities()
    return [(task.identity_name, json.loads(task.query)["query"]) for task in tasks]


def test_a_list_may_hold_comments_blank_lines_and_queries_of_its_own(tmp_path: Path) -> None:
    text = (
        "\ufeff# scientists\r\n\r\nMarie Curie\r\n  Ada   Lovelace \tAda Lovelace portrait\r\n\t\r\n#x\ty\nEmmy Noether"
    )
    assert listed(tmp_path / "n.txt", text, query="{name} face") == [
        ("Marie Curie", "Marie Curie face"),
        ("Ada Lovelace", "Ada Lovelace portrait"),
        ("Emmy Noether", "Emmy Noether face"),
    ]


def test_one_name_written_in_two_ways_is_one_person(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Zoë Ångström") for form in ("NFC", "NFD"))
    assert composed != decomposed
    text = f"{decomposed}\n{composed}\tother\n Zoë\u00a0 Ångström\n"
    assert listed(tmp_path / "n.txt", text) == [(composed, composed)]


@pytest.mark.parametrize(
    "name", ["محمد", "علی\u200cرضا", "北川景子", "Ñandú O'Neil-Øre", "=cmd()", "../../x", "{name}", "CON"]
)
def test_names_of_every_kind_stay_as_they_are(name: str, tmp_path: Path) -> None:
    assert listed(tmp_path / "n.txt", name) == [(name, name)]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "contains no name"),
        (b"# only\n\n \t \n", "contains no name"),
        (b"Ann\n" + b"x" * 201, "line 2: a name of 201 characters"),
        (b"Ann\t" + b"x" * 201, "line 1: a query of 201 characters"),
        (b"\tquery", "line 1: a query without a name"),
        ("Zoë".encode("latin-1"), "not UTF-8"),
        ("Zoë".encode("utf-16"), "not UTF-8"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused_in_one_line(data: bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=problem) as caught:
        listed(tmp_path / "n.txt", data)
    assert "\n" not in str(caught.value)


def test_a_missing_list_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path, problem in ((tmp_path / "none.txt", "no such file"), (tmp_path, "cannot be read")):
        with pytest.raises(SourceError, match=problem):
            next(NamesSource(SearchConfig(names=str(path)), CONTACT, {}).identities())
    with pytest.raises(SourceError, match=r"source\.names: missing; pass --set source\.names="):
        NamesSource(SearchConfig(), CONTACT, {})


def test_the_fingerprint_follows_what_is_asked_and_where_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "n.txt"
    path.write_text("Marie Curie\n")

    def fingerprint(**settings: Any) -> str:
        (task,) = NamesSource(SearchConfig(names=str(path), **settings), CONTACT, {}).identities()
        assert task.candidates == ()
        return task.fingerprint

    same = [
        fingerprint(),
        fingerprint(pause_s={"openverse": 9.0}),
        fingerprint(base_urls={"openverse": "http://a.test"}),
    ]
    others = [
        fingerprint(per_name=99), fingerprint(query="{name} portrait"), fingerprint(licences="open"),
        fingerprint(providers=["openverse"]), fingerprint(providers=["openverse", "wikimedia_commons"]),
    ]  # fmt: skip
    assert len(set(same)) == 1
    assert len({*same, *others}) == 6


@pytest.mark.parametrize(
    ("provider", "environment", "variable"),
    [
        ("brave", {}, "BRAVE_API_KEY"),
        ("brave", {"BRAVE_API_KEY": "  "}, "BRAVE_API_KEY"),
        ("google", {"GOOGLE_API_KEY": "k"}, "GOOGLE_CSE_ID"),
        ("serpapi", {}, "SERPAPI_API_KEY"),
    ],
)
def test_a_missing_key_stops_everything_before_it_starts_and_is_named(
    provider: str, environment: dict[str, str], variable: str
) -> None:
    settings = SearchConfig(names="n.txt", providers=("wikimedia_commons", provider))
    with pytest.raises(SourceError, match=f"{provider} needs a key; set the environment variable {variable}") as caught:
        NamesSource(settings, CONTACT, environment)
    assert caught.value.exit_code == 2


def test_a_key_that_no_header_can_carry_is_refused_without_being_told() -> None:
    settings = SearchConfig(names="n.txt", providers=("brave",), key_env={"BRAVE_API_KEY": "MINE"})
    with pytest.raises(SourceError, match="the value of MINE is not a key") as caught:
        NamesSource(settings, CONTACT, {"MINE": "s3cret\r\nX-Other: 1"})
    assert "s3cret" not in str(caught.value)


def test_nobody_is_searched_for_anonymously() -> None:
    for fetch in (FetcherConfig(), FetcherConfig(allow_private=("127.0.0.1",))):
        with pytest.raises(RecipeError, match=r"fetch\.contact: missing"):
            NamesSource(SearchConfig(names="n.txt"), fetch, {})


@pytest.mark.parametrize("provider", [name for name, kind in PROVIDERS.items() if not kind.states_licences])
def test_open_licences_cannot_be_asked_of_a_provider_that_states_none(provider: str) -> None:
    settings = SearchConfig(names="n.txt", providers=(provider,), licences="open")
    with pytest.raises(RecipeError, match=f"open: {provider} states no licences"):
        NamesSource(settings, CONTACT, {})


def test_the_same_url_from_two_providers_is_listed_once_for_the_first(server: SearchServer, source: MakeSource) -> None:
    server.n_hits.update(openverse=3, brave=5)
    urls = {"openverse": server.base_urls["openverse"], "wikimedia_commons": server.base_urls["wikimedia_commons"]}
    same = {"query": {"pages": [{"index": 1, "imageinfo": [{"url": picture("openverse", 1)}]}]}, "batchcomplete": True}
    server.bad_days["wikimedia_commons"] = [as_json(same)]
    found = candidates(source(providers=["openverse", "wikimedia_commons"], base_urls=urls))
    assert [c.locator for c in found] == [picture("openverse", n) for n in range(3)]
    assert {c.facts["provider"] for c in found} == {"openverse"}


def test_the_next_provider_fills_up_and_is_not_asked_where_nothing_is_missing(
    server: SearchServer, source: MakeSource
) -> None:
    server.n_hits.update(wikimedia_commons=30, openverse=500, brave=500)
    found = candidates(source(providers=["wikimedia_commons", "openverse", "brave"], per_name=70))
    providers = [c.facts["provider"] for c in found]
    assert providers == ["wikimedia_commons"] * 30 + ["openverse"] * 40
    assert [len(server.queries(name)) for name in ("wikimedia_commons", "openverse", "brave")] == [1, 2, 0]


def test_a_name_that_nobody_knows_is_one_dropped_row(server: SearchServer, source: MakeSource) -> None:
    providers = ["wikimedia_commons", "openverse", "google", "serpapi", "brave"]
    (found,) = candidates(source(providers=providers))
    assert len(server.asked) == 5
    assert found.facts == {
        "status": "dropped", "stage": "fetch", "reason": "no_hits", "retryable": False,
        "message": f"nothing found by {', '.join(providers)}", "provider": ", ".join(providers),
        "search_query": "Marie Curie",
    }  # fmt: skip


def test_names_of_the_same_person_keep_their_id_and_query_when_expanded(
    server: SearchServer, source: MakeSource
) -> None:
    server.n_hits["openverse"] = 3
    names = source("Marie Curie\nAda\tAda Lovelace\n", providers=["openverse"])
    for task in names.identities():
        expanded = names.expand(task)
        assert (expanded.identity_id, expanded.identity_name, expanded.source) == (
            task.identity_id,
            task.identity_name,
            "names",
        )
        assert expanded.fingerprint == task.fingerprint
    assert [query["q"] for query in server.queries("openverse")] == ["Marie Curie", "Ada Lovelace"]


@pytest.mark.parametrize(
    "override",
    [
        "source.query=portrait", "source.providers=[]", "source.providers=[brave, brave]", "source.providers=[bing]",
        "source.per_name=0", "source.pause_s={openverse: -1}", "source.key_env={HOME: X}", "source.licences=free",
        "source.base_urls={brave: 'ftp://a.test'}", "source.base_urls={brave: 'http://u:p@a.test'}",
        "source.base_urls={brave: 'http://a.test?x=1'}", "source.base_urls={brave: 'http://'}",
        "source.base_urls={brave: 'http://a.test:99999'}", "source.base_urls={brave: 'http://[a'}",
    ],
)  # fmt: skip
def test_the_recipe_refuses_what_cannot_be_searched(override: str) -> None:
    with pytest.raises(RecipeError, match=r"source\."):
        load_recipe(PROJECT_ROOT / "pipelines" / "web.yaml", [override])


def test_how_politely_is_asked_is_no_part_of_the_recipes_hash() -> None:
    def hash_of(*overrides: str) -> str:
        return load_recipe(PROJECT_ROOT / "pipelines" / "web.yaml", overrides).hash

    assert hash_of() == hash_of(
        "source.pause_s={brave: 5}", "source.key_env={BRAVE_API_KEY: B}", "fetch.contact=a@b.org"
    )
    assert hash_of() == hash_of("source.base_urls={brave: 'http://127.0.0.1:9'}")
    assert hash_of() != hash_of("source.per_name=7")


def test_the_recipe_of_the_project_opens_and_lists_its_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT_ROOT)
    recipe = load_recipe(Path("pipelines/web.yaml"), ["fetch.contact=crawl@example.org"])
    assert next(task.identity_name for task in open_remote(recipe).identities()) == "Marie Curie"
