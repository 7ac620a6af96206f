"""Two hundred hosts at once: four bad hosts among them do not delay the others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from hifidata.fetch.client import Fetcher
from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.result import FetchRequest, FetchResult
from tests.fetch.conftest import LOOPBACK, fetch_all, lookup_table, quick
from tests.servers.blackhole import blackhole
from tests.servers.hostile import HostileServer

N_HOSTS = 200
BAD = {
    "dead.test": "/picture",
    "hangs.test": "/hang",
    "trickles.test": "/trickle?every_s=1",
    "limits.test": "/status?code=429&Retry-After=3600",
}
HEALTHY = [f"h{number:03d}.test" for number in range(N_HOSTS - len(BAD))]
DEAD_ADDRESS = "127.0.2.1"
ADDRESSES = {host: [f"127.0.1.{number + 1}"] for number, host in enumerate([*HEALTHY, *BAD])} | {
    "dead.test": [DEAD_ADDRESS]
}
PICTURES_PER_HOST = 3
URLS_PER_BAD_HOST = 40
MAX_CONNECTIONS = 32
"""Fewer than the URLs of one bad host: URLs that wait must not hold connections."""


def settings_with(timeout_s: float, **changes: float) -> FetcherConfig:
    return quick(
        allow_private=LOOPBACK, delay_s=0.1, connections_per_host=1, max_connections=MAX_CONNECTIONS, obey_robots=True, tries=2,
        connect_timeout_s=timeout_s, read_timeout_s=timeout_s, total_timeout_s=timeout_s, max_host_errors=3, **changes,
    )  # fmt: skip


def bad_urls(port: int) -> list[str]:
    return [
        f"http://{host}:{port}{path}{'&' if '?' in path else '?'}v={n}"
        for host, path in BAD.items()
        for n in range(URLS_PER_BAD_HOST)
    ]


@pytest.fixture
def many_hosts() -> Iterator[HostileServer]:
    addresses = sorted({address for host, (address,) in ADDRESSES.items() if host != "dead.test"})
    try:
        with HostileServer(addresses=addresses) as server, blackhole(DEAD_ADDRESS, server.port):
            yield server
    except OSError as error:
        pytest.skip(f"this system has no further loopback addresses: {error}")


def test_healthy_hosts_finish_while_bad_hosts_never_answer(many_hosts: HostileServer) -> None:
    port = many_hosts.port
    urls = [f"http://{host}:{port}/picture?v={n}" for host in HEALTHY for n in range(PICTURES_PER_HOST)]

    async def crawl() -> tuple[list[FetchResult], int]:
        async with Fetcher(settings_with(3600, max_retry_after_s=3600), lookup=lookup_table(ADDRESSES)) as fetcher:
            bad = [asyncio.create_task(fetcher.fetch(FetchRequest(url))) for url in bad_urls(port)]
            await asyncio.sleep(0)  # the URLs of the bad hosts come first
            healthy = list(await asyncio.gather(*(fetcher.fetch(FetchRequest(url)) for url in urls)))
            n_bad_done = sum(task.done() for task in bad)
            for task in bad:
                task.cancel()
            await asyncio.gather(*bad, return_exceptions=True)
            return healthy, n_bad_done

    healthy, n_bad_done = asyncio.run(crawl())
    assert all(result.ok for result in healthy)
    assert n_bad_done == 0


def test_each_bad_host_is_stopped_with_its_own_reason(many_hosts: HostileServer) -> None:
    results = fetch_all(settings_with(1.0, max_retry_after_s=0.1), bad_urls(many_hosts.port), lookup_table(ADDRESSES))
    reasons = {host: Counter(str(r.reason) for r in results if f"//{host}" in r.url) for host in BAD}
    n_stopped = URLS_PER_BAD_HOST - 3
    assert reasons == {
        "dead.test": {"robots_unreachable": URLS_PER_BAD_HOST},
        "hangs.test": {"timeout": 3, "host_stopped": n_stopped},
        "trickles.test": {"timeout": 3, "host_stopped": n_stopped},
        "limits.test": {"rate_limited": 3, "host_stopped": n_stopped},
    }
