"""How often a host is bothered, and what one host's trouble means for others."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from hifidata.fetch import throttle
from hifidata.fetch.result import FetchFailure
from hifidata.fetch.throttle import Throttle
from tests.fetch.conftest import fetch_all, lookup_table, quick
from tests.servers.hostile import HostileServer

EARLY_S = 0.05
"""Times are taken on arrival; on a busy machine one request may be noted this much later than it was sent."""
CLOCK_S = 1e-6
"""Rounding of sums of times."""


class Started(NamedTuple):
    """Times of the requests of a test, by the client's clock. The server notes an arrival late on a busy machine."""

    starts_s: list[float]
    sent_s: list[float]

    @property
    def gaps_s(self) -> list[float]:
        return [after - before for before, after in pairwise(self.starts_s)]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Note when the throttle starts each request, and when the transport sends it."""
    times = Started([], [])

    class NotedSlot(throttle.Slot):
        def __init__(self, host: Any) -> None:
            super().__init__(host)
            times.starts_s.append(host.last_start_s)

        def note_sent(self) -> None:
            super().note_sent()
            times.sent_s.append(self._host.last_start_s)

    monkeypatch.setattr(throttle, "Slot", NotedSlot)
    return times


@pytest.mark.parametrize("connections", [1, 4])
def test_requests_to_one_host_keep_their_distance(server: HostileServer, connections: int, started: Started) -> None:
    """Redirects, retries, failures and robots.txt are requests like any other."""
    settings = quick(delay_s=0.15, connections_per_host=connections, obey_robots=True, total_timeout_s=60)
    paths = ["/picture", "/redirect?to=/picture", "/status?code=404", "/drop", "/silence", "/hops?left=3", "/html"]
    fetch_all(settings, [server.url(path) for path in paths])
    assert len(server.seen) == 1 + 1 + 2 + 1 + 3 + 3 + 4 + 1
    assert len(started.starts_s) == len(server.seen)
    assert min(started.gaps_s) >= 0.15 - CLOCK_S


def test_the_time_it_takes_to_connect_does_not_shorten_the_distance(server: HostileServer, started: Started) -> None:
    async def slow_lookup(host: str) -> list[str]:
        await asyncio.sleep(0.15)
        return ["127.0.0.1"]

    settings = quick(delay_s=0.2, connections_per_host=1)
    fetch_all(settings, [server.url(f"/picture?v={number}", "site.test") for number in range(2)], slow_lookup)
    assert started.sent_s[0] - started.starts_s[0] >= 0.15 - CLOCK_S
    assert started.starts_s[1] - started.sent_s[0] >= 0.2 - CLOCK_S


def test_a_host_never_sees_more_connections_than_allowed(server: HostileServer) -> None:
    for allowed in (1, 3):
        server.seen.clear()
        fetch_all(quick(connections_per_host=allowed), [server.url(f"/picture?delay_s=0.1&v={n}") for n in range(6)])
        times_s = server.times_s("127.0.0.1")
        assert all(later - earlier >= 0.09 for earlier, later in zip(times_s, times_s[allowed:], strict=False))


def test_all_hosts_together_never_use_more_connections_than_allowed(server: HostileServer) -> None:
    names = {f"h{number}.test": ["127.0.0.1"] for number in range(12)}
    fetch_all(
        quick(max_connections=3), [server.url("/picture?delay_s=0.1", name) for name in names], lookup_table(names)
    )
    times_s = sorted(seen.at_s for seen in server.seen)
    assert all(later - earlier >= 0.09 for earlier, later in zip(times_s, times_s[3:], strict=False))


def test_retry_after_pauses_the_whole_host_and_no_other(server: HostileServer) -> None:
    names = {"busy.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]}
    paths = ["/status?code=429&Retry-After=1&times=1", *(f"/picture?v={number}" for number in range(3))]
    urls = [server.url(path, name) for name in names for path in paths[name == "other.test" :]]
    results = fetch_all(quick(connections_per_host=1, total_timeout_s=60), urls, lookup_table(names))
    assert all(result.ok for result in results)
    limited_s, *later_s = server.times_s("busy.test")
    assert len(later_s) == 4
    assert min(later_s) - limited_s >= 1.0 - EARLY_S
    assert max(server.times_s("other.test")) < min(later_s)


def test_retry_after_has_a_limit(server: HostileServer) -> None:
    url = server.url("/status?code=503&Retry-After=86400&times=1")
    (result,) = fetch_all(quick(max_retry_after_s=0.1), [url])
    assert result.ok
    assert result.attempts == 2


def test_a_host_that_only_fails_is_stopped_and_its_rows_say_so(server: HostileServer) -> None:
    settings = quick(max_host_errors=5, tries=1, connections_per_host=1)
    urls = [server.url(f"/silence?v={number}") for number in range(50)]
    results = fetch_all(settings, urls)
    reasons = [str(result.reason) for result in results]
    assert reasons == ["connect_error"] * 5 + ["host_stopped"] * 45
    assert len(server.seen) == 5
    assert all(result.retryable for result in results)
    assert [result.attempts for result in results[5:]] == [0] * 45


def test_a_host_with_most_of_the_urls_does_not_hold_up_the_others(server: HostileServer) -> None:
    names = {name: ["127.0.0.1"] for name in ("large.test", "small.test", "tiny.test")}
    urls = [server.url(f"/picture?v={number}", "large.test") for number in range(18)]
    urls += [server.url("/picture", "small.test"), server.url("/picture", "tiny.test")]
    settings = quick(delay_s=0.05, connections_per_host=1, max_connections=2)
    *large, small, tiny = fetch_all(settings, urls, lookup_table(names))
    assert large[-1].total_s >= 17 * 0.05
    assert max(small.total_s, tiny.total_s) < 0.5


def test_answers_of_any_kind_keep_a_host_alive(server: HostileServer) -> None:
    settings = quick(max_host_errors=3, tries=1, connections_per_host=1)
    paths = ["/silence", "/silence", "/status?code=404"] * 5
    results = fetch_all(
        settings, [server.url(f"{path}{'&' if '?' in path else '?'}v={n}") for n, path in enumerate(paths)]
    )
    assert not [result for result in results if result.reason == "host_stopped"]


def test_a_stopped_host_gets_another_chance_later() -> None:
    async def run() -> None:
        throttle = Throttle(quick(max_host_errors=1, host_stop_s=0.05))
        with pytest.raises(FetchFailure):
            async with throttle.slot("a.test"):
                raise FetchFailure("timeout", "slow")
        with pytest.raises(FetchFailure) as caught:
            async with throttle.slot("a.test"):
                pass
        assert caught.value.reason == "host_stopped"
        assert "timeout" in caught.value.message
        await asyncio.sleep(0.06)
        async with throttle.slot("a.test"):
            pass

    asyncio.run(run())


def test_a_slow_host_is_asked_less_often(server: HostileServer, started: Started) -> None:
    fetch_all(quick(delay_s=0.01, slowdown=3.0, connections_per_host=1), [server.url("/picture?delay_s=0.1")] * 3)
    assert min(started.gaps_s) >= 0.3 - CLOCK_S


def test_hosts_without_business_are_forgotten() -> None:
    async def run() -> int:
        throttle = Throttle(quick(max_crawl_delay_s=0.0))
        most = 0
        for number in range(12_000):
            async with throttle.slot(f"h{number}.test"):
                most = max(most, throttle.n_hosts)
        return most

    assert asyncio.run(run()) < 5_000


def test_a_caller_that_gives_up_frees_its_place(server: HostileServer) -> None:
    async def run() -> None:
        throttle = Throttle(quick(connections_per_host=1, max_connections=1))

        async def hold(host: str) -> None:
            async with throttle.slot(host):
                await asyncio.sleep(3600)

        holder = asyncio.create_task(hold("a.test"))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(hold(host)) for host in ("a.test", "b.test")]
        await asyncio.sleep(0.01)
        for task in (*waiting, holder):
            task.cancel()
        await asyncio.gather(holder, *waiting, return_exceptions=True)
        for host in ("a.test", "b.test"):
            async with throttle.slot(host):
                pass

    asyncio.run(asyncio.wait_for(run(), 2))
