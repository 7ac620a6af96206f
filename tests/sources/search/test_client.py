"""Searching is polite, bounded in time and size, and never tells a key."""

from __future__ import annotations

import itertools
import logging
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hifidata.core.schema import Candidate
from hifidata.sources.search import client
from tests.conftest import Later
from tests.servers.hostile import HostileServer
from tests.servers.search import KEY, Reply, SearchServer, as_json, picture
from tests.sources.search.conftest import MakeSource, candidates

LAGS = as_json({"error": {"code": "maxlag", "info": "Waiting for a database server"}})


def messages(found: Sequence[Candidate]) -> list[str]:
    return [candidate.facts["message"] for candidate in found if candidate.facts.get("reason") == "search_error"]


@pytest.mark.parametrize(
    "bad_day",
    [
        as_json({}, 429, Retry_After="0"), as_json({}, 500), as_json({}, 503), Reply(b"{'no': json"), Reply(b"[1]"),
        Reply(b""), Reply(b"[" * 200_000), Reply(b"<html>busy</html>"), Reply(b"", drop=True), Reply(b'{"a": 1' + b"1" * 5000),
        Reply(b"\xff\xfe{}"), LAGS,
    ],
)  # fmt: skip
def test_a_passing_fault_is_tried_again(bad_day: Reply, server: SearchServer, source: MakeSource) -> None:
    server.n_hits["wikimedia_commons"] = 1
    server.bad_days["wikimedia_commons"] = [bad_day, bad_day]
    (found,) = candidates(source(providers=["wikimedia_commons"]))
    assert found.locator == picture("wikimedia_commons", 0)
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("bad_day", "message", "n_requests"),
    [
        (as_json({}, 429), "openverse answered 429", 3),
        (as_json({"detail": "Sorry"}, 500), "openverse answered 500: Sorry", 3),
        (as_json({"error": {"message": "No such\nthing"}}, 400), "openverse answered 400: No such thing", 1),
        (as_json({}, 404), "openverse answered 404", 1),
        (as_json({}, 401), "openverse answered 401", 1),
        (Reply(b"", 302, {"Location": "https://elsewhere.test/"}), "openverse answered 302; redirects are not followed", 1),
        (Reply(b"{]"), "openverse: the response is not a JSON object", 3),
        (as_json({"results": None}), "openverse answered without results", 1),
        (Reply(b" " * (8 * 2**20 + 1)), "openverse: response over 8388608 bytes", 1),
        (Reply(b"", drop=True), "openverse: connection failed (ConnectionError)", 3),
        (Reply(b"{}" + b" " * 100, trickle_s=0.05), "openverse: no response within 1 s", 3),
    ],
)  # fmt: skip
def test_a_lasting_fault_becomes_one_row_and_the_next_provider_fills_up(
    bad_day: Reply, message: str, n_requests: int, server: SearchServer, source: MakeSource
) -> None:
    server.n_hits["brave"] = 7
    server.bad_days["openverse"] = [bad_day] * 3
    limit_s = 1 if bad_day.trickle_s else 60
    found = candidates(source(providers=["openverse", "brave"], per_name=5, fetch={"total_timeout_s": limit_s}))
    assert [c.locator for c in found[:5]] == [picture("brave", n) for n in range(5)]
    (failed,) = found[5:]
    assert failed.relative_path == failed.source_uri == "search:openverse"
    assert failed.facts == {
        "status": "failed", "stage": "fetch", "reason": "search_error", "message": message, "retryable": True,
        "provider": "openverse", "search_query": "Marie Curie",
    }  # fmt: skip
    assert len(server.queries("openverse")) == n_requests


def test_a_provider_that_says_nothing_costs_its_deadline_and_no_more(server: SearchServer, source: MakeSource) -> None:
    server.think_s = 3600
    found = candidates(source(providers=["brave"], fetch={"total_timeout_s": 0.2}))
    assert messages(found) == ["brave: no response within 0.2 s"]


def test_a_provider_that_cannot_be_reached_is_a_row(source: MakeSource) -> None:
    with socket.socket() as taken:  # bound, never listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        found = candidates(source(providers=["openverse"], base_urls={"openverse": url}))
    assert messages(found) == ["openverse: connection failed (ConnectionError)"]


def test_what_was_found_before_a_fault_is_kept(server: SearchServer, source: MakeSource) -> None:
    server.n_hits["openverse"] = 100
    fine = {"page_count": 5, "results": [{"url": "https://a.test/1.jpg"}]}
    server.bad_days["openverse"] = [as_json(fine), as_json({}, 400)]
    found = candidates(source(providers=["openverse"]))
    assert found[0].locator == "https://a.test/1.jpg"
    assert messages(found) == ["openverse answered 400"]


def test_two_threads_share_one_pause_and_never_ask_at_once(server: SearchServer, source: MakeSource) -> None:
    server.n_hits["openverse"] = 40
    server.think_s = 0.02
    names = source("A\nB\nC\nD\n", providers=["openverse"], pause_s={"openverse": 0.1})
    with ThreadPoolExecutor(4) as pool:
        tasks = list(pool.map(names.expand, names.identities()))
    assert [len(task.candidates) for task in tasks] == [40] * 4
    times_s = server.times_s("openverse")
    gaps_s = [later - sooner for sooner, later in itertools.pairwise(times_s)]
    assert len(gaps_s) == 7
    assert sum(gaps_s) > 7 * 0.1 - 0.05  # the server may note the first request late; gaps between are no worse for it
    assert min(gaps_s) > 0.05
    assert server.most_at_once == 1


def test_a_provider_that_pauses_holds_up_no_other(server: SearchServer, source: MakeSource) -> None:
    server.n_hits.update(brave=1, openverse=1)
    server.bad_days["openverse"] = [as_json({}, 429, Retry_After="1")]
    names = source("A\nB\n", providers=["brave", "openverse"])
    first, second = names.identities()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(names.expand, first)
        while not server.times_s("openverse"):
            time.sleep(0.01)
        pool.submit(names.expand, second)
    assert server.times_s("brave")[1] < server.times_s("openverse")[1]


def test_retry_after_holds_for_every_thread(server: SearchServer, source: MakeSource) -> None:
    server.n_hits["brave"] = 1
    server.bad_days["brave"] = [as_json({}, 429, Retry_After="1")]
    names = source("A\nB\nC\n", providers=["brave"])
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(names.expand, names.identities()))
    times_s = server.times_s("brave")
    assert len(times_s) == 4
    assert times_s[1] - times_s[0] >= 0.99


def test_a_lagging_commons_is_given_the_time_it_asks_for(server: SearchServer, source: MakeSource) -> None:
    server.bad_days["wikimedia_commons"] = [Reply(LAGS.body, headers={"Retry-After": "1"})]
    candidates(source(providers=["wikimedia_commons"]))
    times_s = server.times_s("wikimedia_commons")
    assert times_s[1] - times_s[0] >= 0.99


def test_a_wait_beyond_the_limit_is_not_waited_for_and_nobody_asks_meanwhile(
    server: SearchServer, source: MakeSource
) -> None:
    server.bad_days["brave"] = [as_json({}, 429, Retry_After="3600")]
    names = source("A\nB\n", providers=["brave"], fetch={"max_retry_after_s": 10})
    first, second = (names.expand(task).candidates for task in names.identities())
    assert messages(first) == ["brave answered 429"]
    assert messages(second) == ["brave is stopped after an earlier failure: brave answered 429"]
    assert len(server.asked) == 1


@pytest.mark.parametrize(("status", "n_requests"), [(403, 1), (400, 3)])
def test_a_provider_that_refuses_us_is_left_alone(
    status: int, n_requests: int, server: SearchServer, source: MakeSource, later: Later
) -> None:
    """At once where it does not want us, after ``max_host_errors`` otherwise; and asked again later."""
    server.n_hits["brave"] = 1
    server.bad_days["brave"] = [as_json({}, status)] * n_requests
    names = source("A\nB\nC\nD\n", providers=["brave"], fetch={"max_host_errors": 3, "host_stop_s": 1800})
    found = [names.expand(task).candidates for task in names.identities()]
    assert all(messages(candidates) for candidates in found)
    assert len(server.asked) == n_requests
    later(client, 1800)
    (task, *_) = names.identities()
    assert not messages(names.expand(task).candidates)


def test_errors_count_only_while_they_follow_each_other(server: SearchServer, source: MakeSource) -> None:
    server.n_hits["brave"] = 1
    fine, bad = as_json({"results": []}), as_json({}, 400)
    server.bad_days["brave"] = [bad, bad, fine, bad, bad]
    names = source("A\nB\nC\nD\nE\nF\n", providers=["brave"], fetch={"max_host_errors": 3})
    found = [names.expand(task).candidates[0] for task in names.identities()]
    assert len(server.asked) == 6
    assert found[-1].locator == picture("brave", 0)


@pytest.mark.parametrize("provider", ["brave", "google", "serpapi"])
@pytest.mark.parametrize("way", ["echoed", "unreachable", "silent", "dropped", "malformed"])
def test_keys_never_reach_a_row_or_a_log(
    provider: str,
    way: str,
    server: SearchServer,
    source: MakeSource,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    settings: dict[str, Any] = {"providers": [provider], "fetch": {"tries": 2, "total_timeout_s": 0.2}}
    echo = f"bad key {KEY} in /search?key={'k3y%2Fwith%2Bodd%3Dcharacters'}&cx=engine"
    replies = {"echoed": as_json({"error": echo}, 400), "dropped": Reply(b"", drop=True), "malformed": Reply(b"?")}
    if way == "unreachable":
        settings["base_urls"] = {provider: "http://127.0.0.1:1/search"}
    elif way == "silent":
        server.think_s = 5
    else:
        server.bad_days[provider] = [replies[way]] * 2
    found = candidates(source("Marie Curie\n", **settings))
    told = f"{found} {caplog.text}"
    assert messages(found)
    for form in (KEY, "k3y%2F", "k3y"):
        assert form not in told
    assert "Curie" not in caplog.text


def test_a_response_whose_headers_never_end_is_given_up(source: MakeSource) -> None:
    with HostileServer() as slow:
        asked = source(
            providers=["openverse"],
            base_urls={"openverse": slow.url("/slow-head")},
            fetch={"total_timeout_s": 0.2, "connect_timeout_s": 0.2, "tries": 1},
        )
        (failed,) = candidates(asked)
    assert failed.facts["message"] == "openverse: no response within 0.2 s"
