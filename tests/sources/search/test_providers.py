"""Every provider: pages in its own way, says what it knows about a hit, and nothing it does not know.

The servers are made after the providers' documentation; that the real services still speak so, these tests cannot show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.servers.search import KEY, SearchServer, as_json, commons_page, picture
from tests.sources.search.conftest import MakeSource, candidates

ASKED_FOR_100 = {"wikimedia_commons": 2, "openverse": 5, "brave": 1, "google": 10, "serpapi": 1}


@pytest.mark.parametrize(("provider", "n_requests"), ASKED_FOR_100.items())
def test_a_hundred_pictures_take_no_request_more_than_needed(
    provider: str, n_requests: int, server: SearchServer, source: MakeSource
) -> None:
    server.n_hits[provider] = 500
    found = candidates(source(providers=[provider], per_name=100))
    assert [candidate.locator for candidate in found] == [picture(provider, n) for n in range(100)]
    assert len(server.asked) == n_requests


@pytest.mark.parametrize("n_hits", [1, 10, 20, 49, 50, 51, 100, 101])
@pytest.mark.parametrize("provider", ASKED_FOR_100)
def test_every_hit_is_found_once_where_there_are_fewer_than_wanted(
    provider: str, n_hits: int, server: SearchServer, source: MakeSource
) -> None:
    server.n_hits[provider] = n_hits
    found = candidates(source(providers=[provider], per_name=1000))
    most = 100 if provider == "google" else n_hits
    assert [candidate.locator for candidate in found] == [picture(provider, n) for n in range(min(n_hits, most))]


@pytest.mark.parametrize(("provider", "most"), [("openverse", 240), ("brave", 200), ("google", 100)])
def test_nobody_is_asked_beyond_the_depth_it_allows(
    provider: str, most: int, server: SearchServer, source: MakeSource
) -> None:
    server.n_hits[provider] = 5000
    found = candidates(source(providers=[provider], per_name=1000))
    assert len(found) == most
    assert all("status" not in candidate.facts for candidate in found)


@pytest.mark.parametrize(
    ("provider", "facts"),
    [
        ("wikimedia_commons", {
            "licence": "CC BY-SA 4.0", "author": "Ada & Bo 0", "landing_page_uri": "https://commons.test/wiki/File:0.jpg"}),
        ("openverse", {"licence": "CC BY-NC 2.0", "author": "Cy 0", "landing_page_uri": "https://flickr.test/0"}),
        ("brave", {"landing_page_uri": "https://page.test/0"}),
        ("google", {"landing_page_uri": "https://page.test/0"}),
        ("serpapi", {"licence": "CC BY-SA 3.0", "landing_page_uri": "https://page.test/0"}),
    ],
)  # fmt: skip
def test_a_hit_says_what_the_provider_states(
    provider: str, facts: dict[str, str], server: SearchServer, source: MakeSource
) -> None:
    server.n_hits[provider] = 1
    (found,) = candidates(source(providers=[provider], query="{name} portrait"))
    assert found.facts == {**facts, "provider": provider, "search_query": "Marie Curie portrait"}
    assert found.source_uri == found.relative_path == found.locator == picture(provider, 0)


def test_only_open_licences_are_asked_for_and_taken(server: SearchServer, source: MakeSource) -> None:
    server.n_hits.update(wikimedia_commons=3, openverse=8, serpapi=6)
    found = candidates(source(providers=["wikimedia_commons", "openverse", "serpapi"], licences="open"))
    licences = {(candidate.facts["provider"], candidate.facts["licence"]) for candidate in found}
    assert licences == {
        ("wikimedia_commons", "CC BY-SA 4.0"), ("openverse", "CC0 2.0"), ("openverse", "Public Domain Mark 2.0"),
        ("openverse", "CC BY 2.0"), ("openverse", "CC BY-SA 2.0"), ("serpapi", "CC BY-SA 3.0"),
    }  # fmt: skip
    assert server.queries("openverse")[0]["license"] == "cc0,pdm,by,by-sa"
    assert server.queries("serpapi")[0]["tbs"] == "sur:cl"


def test_commons_leaves_out_what_no_stage_can_read(server: SearchServer, source: MakeSource) -> None:
    kinds = ("image/jpeg", "image/svg+xml", "image/tiff", "application/pdf", "video/webm", "image/png", "text/html")
    pages = [commons_page(n, mime=kind) for n, kind in enumerate(kinds)]
    server.bad_days["wikimedia_commons"] = [as_json({"batchcomplete": True, "query": {"pages": pages}})]
    found = candidates(source(providers=["wikimedia_commons"]))
    assert [c.locator for c in found] == [picture("wikimedia_commons", n) for n in (0, 5)]
    assert server.asked[0].query["gsrsearch"] == "filetype:bitmap Marie Curie"


def test_commons_answers_in_parts_are_put_together(server: SearchServer, source: MakeSource) -> None:
    bare = [{"pageid": 1000 + n, "index": n + 1} for n in range(3)]
    server.bad_days["wikimedia_commons"] = [
        as_json({"continue": {"iistart": "x", "continue": "||"}, "query": {"pages": [*bare[:2], commons_page(2)]}}),
        as_json({"batchcomplete": True, "query": {"pages": [commons_page(1), commons_page(0), bare[2]]}}),
    ]
    found = candidates(source(providers=["wikimedia_commons"]))
    assert [c.locator for c in found] == [picture("wikimedia_commons", n) for n in range(3)]
    assert server.asked[1].query["iistart"] == "x"


def test_a_commons_server_that_never_stops_continuing_is_left(server: SearchServer, source: MakeSource) -> None:
    again = as_json({"batchcomplete": True, "continue": {"gsroffset": 50, "continue": "gsroffset||"}})
    server.bad_days["wikimedia_commons"] = [again] * 10
    (found,) = candidates(source(providers=["wikimedia_commons"]))
    assert found.facts["reason"] == "no_hits"
    assert len(server.asked) == 2


def test_a_file_that_commons_marks_as_not_free_gets_no_licence(server: SearchServer, source: MakeSource) -> None:
    about = {"LicenseShortName": {"value": "Fair use"}, "NonFree": {"value": "true"}}
    answer = as_json({"batchcomplete": True, "query": {"pages": [commons_page(0, extmetadata=about)]}})
    server.bad_days["wikimedia_commons"] = [answer, answer]
    (found,) = candidates(source(providers=["wikimedia_commons"]))
    assert "licence" not in found.facts
    (nothing,) = candidates(source(providers=["wikimedia_commons"], licences="open"))
    assert nothing.facts["reason"] == "no_hits"


def test_the_token_of_openverse_is_sent_where_there_is_one(server: SearchServer, source: MakeSource) -> None:
    server.n_hits["openverse"] = 1
    candidates(source(providers=["openverse"], environment={}))
    candidates(source(providers=["openverse"], environment={"MINE": "t0ken"}, key_env={"OPENVERSE_TOKEN": "MINE"}))
    assert [asked.headers.get("authorization") for asked in server.asked] == [None, "Bearer t0ken"]


def test_requests_say_who_asks_and_carry_no_cookie(server: SearchServer, source: MakeSource) -> None:
    server.n_hits["wikimedia_commons"] = 60
    sets_cookie = as_json({"error": {"code": "maxlag", "info": "waiting"}}, Set_Cookie="a=b", Retry_After="0")
    server.bad_days["wikimedia_commons"] = [sets_cookie]
    candidates(source(providers=["wikimedia_commons"], fetch={"contact": "crawl@example.org"}))
    assert len(server.asked) == 3
    assert all(asked.headers["user-agent"].endswith("(+mailto:crawl@example.org)") for asked in server.asked)
    assert all("cookie" not in asked.headers for asked in server.asked)


NONSENSE = [
    None, 7, 1e999, "", "\ud800", [], {}, {"a": 1}, "x" * 5000, ["\x00"], "javascript:1", "https://", "\u202e",
    "https://a.test/\u202e1", "https://a.test/\udc80", "https://a.test/a b", "https://a.test/" + "x" * 5000,
]  # fmt: skip
GOOD = {
    "wikimedia_commons": commons_page(0),
    "openverse": {"url": "https://a.test/1", "foreign_landing_url": "https://a.test", "creator": "C", "license": "by",
                  "license_version": "2.0", "filetype": "png"},
    "brave": {"url": "https://a.test", "properties": {"url": "https://a.test/1"}},
    "google": {"link": "https://a.test/1", "mime": "image/png", "image": {"contextLink": "https://a.test"}},
    "serpapi": {"original": "https://a.test/1", "link": "https://a.test", "license_details_url": "https://a.test"},
}  # fmt: skip
WRAP: Mapping[str, Callable[[Any], Any]] = {
    "wikimedia_commons": lambda hits: {"query": {"pages": hits}, "continue": {"a": {}}},
    "openverse": lambda hits: {"results": hits, "page_count": "many"},
    "brave": lambda hits: {"results": hits},
    "google": lambda hits: {"items": hits, "queries": []},
    "serpapi": lambda hits: {"images_results": hits},
}


def spoiled(value: Any) -> Iterator[Any]:
    """Copies of a value in which one part, or all of it, is nonsense."""
    yield from NONSENSE
    if isinstance(value, dict):
        for name, part in value.items():
            yield from ({**value, name: other} for other in spoiled(part))
    elif isinstance(value, list):
        for position, part in enumerate(value):
            yield from ([*value[:position], other, *value[position + 1 :]] for other in spoiled(part))


@pytest.mark.parametrize("provider", ASKED_FOR_100)
def test_values_of_the_wrong_kind_never_break_a_search(provider: str, server: SearchServer, source: MakeSource) -> None:
    replies = [as_json(WRAP[provider]([hit])) for hit in spoiled(GOOD[provider])]
    replies += [as_json(WRAP[provider](nonsense)) for nonsense in NONSENSE]
    server.bad_days[provider] = [*replies]
    n_found = 0
    names = source(providers=[provider], per_name=1000, fetch={"tries": 1, "host_stop_s": 0})
    while server.bad_days[provider]:
        for found in candidates(names):
            n_found += found.locator.startswith("https://")
            for value in (found.locator, *found.facts.values()):
                if isinstance(value, str):
                    assert value.isprintable()  # and so no lone surrogate, which Parquet could not store
                    assert len(value) <= 2048
    assert 0 < n_found < len(replies)


def test_the_server_itself_refuses_a_wrong_key(server: SearchServer, source: MakeSource) -> None:
    environment = {"BRAVE_API_KEY": "wrong" + KEY}
    (found,) = candidates(source(providers=["brave"], environment=environment))
    assert found.facts["message"] == "brave answered 401: Invalid API key ***"
