"""Two hundred hosts at once: four bad ones among them cost the others nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from hifidata.fetch.client import Fetcher
from hifidata.fetch.result import FetchRequest, FetchResult
from tests.fetch.conftest import LOOPBACK, lookup_table, quick
from tests.servers.blackhole import blackhole
from tests.servers.hostile import HostileServer

N_HOSTS = 200
BAD = {
    "dead.test": "/picture",
    "hangs.test": "/hang",
    "trickles.test": "/trickle?every_s=1",
    "limits.test": "/status?code=429&Retry-After=1",
}
HEALTHY = [f"h{number:03d}.test" for number in range(N_HOSTS - len(BAD))]
DEAD_ADDRESS = "127.0.2.1"
ADDRESSES = {host: [f"127.0.1.{number + 1}"] for number, host in enumerate([*HEALTHY, *BAD])} | {
    "dead.test": [DEAD_ADDRESS]
}
DELAY_S = 0.6
PICTURES_PER_HOST = 3

SETTINGS = quick(
    allow_private=LOOPBACK, delay_s=DELAY_S, connections_per_host=1, max_connections=32, obey_robots=True, tries=2,
    connect_timeout_s=0.6, read_timeout_s=1.2, total_timeout_s=1.5, dns_timeout_s=1.0, max_host_errors=3,
)  # fmt: skip
"""So few connections that bad hosts would be felt at once if a waiting URL kept one."""


def urls_of(hosts: list[str], port: int) -> list[str]:
    """Bad hosts first and with more URLs: whoever serves in order of arrival gets stuck with them."""
    bad = [host for host in hosts if host in BAD]
    urls = [
        f"http://{host}:{port}{BAD[host]}{'&' if '?' in BAD[host] else '?'}v={n}" for host in bad for n in range(40)
    ]
    healthy = [host for host in hosts if host not in BAD]
    return urls + [f"http://{host}:{port}/picture?v={n}" for host in healthy for n in range(PICTURES_PER_HOST)]


async def crawl(urls: list[str]) -> tuple[list[FetchResult], float]:
    """All results, and when the last healthy host was done."""
    began_s = time.monotonic()
    healthy_done_s = 0.0

    async with Fetcher(SETTINGS, lookup=lookup_table(ADDRESSES)) as fetcher:

        async def one(url: str) -> FetchResult:
            nonlocal healthy_done_s
            result = await fetcher.fetch(FetchRequest(url))
            if "//h0" in url or "//h1" in url:
                healthy_done_s = max(healthy_done_s, time.monotonic() - began_s)
            return result

        return list(await asyncio.gather(*(one(url) for url in urls))), healthy_done_s


@pytest.fixture
def many_hosts() -> HostileServer:
    addresses = sorted({address for host, (address,) in ADDRESSES.items() if host != "dead.test"})
    try:
        with HostileServer(addresses=addresses) as server:
            yield server
    except OSError as error:
        pytest.skip(f"this system has no further loopback addresses: {error}")


async def crawl_both(port: int) -> list[tuple[list[FetchResult], float]]:
    """The healthy hosts alone and beside the bad ones, by two fetchers at the same time.

    One after the other would compare the machine's other work of two moments instead.
    """
    return list(await asyncio.gather(crawl(urls_of(HEALTHY, port)), crawl(urls_of([*BAD, *HEALTHY], port))))


def test_bad_hosts_do_not_slow_down_the_healthy_ones(many_hosts: HostileServer) -> None:
    began_s = time.monotonic()
    with blackhole(DEAD_ADDRESS, many_hosts.port):
        (alone, alone_s), (mixed, mixed_s) = asyncio.run(crawl_both(many_hosts.port))
    whole_s = time.monotonic() - began_s
    assert mixed_s <= 1.1 * alone_s
    assert whole_s < 30  # 5 s where nothing else runs
    assert all(result.ok for result in alone)
    assert sum(result.ok for result in mixed) == len(HEALTHY) * PICTURES_PER_HOST
    ends = {host: Counter(str(r.reason) for r in mixed if f"//{host}" in r.url) for host in BAD}
    assert ends["dead.test"] == {"robots_unreachable": 40}
    assert ends["hangs.test"] == {"timeout": 3, "host_stopped": 37}
    assert ends["trickles.test"] == {"timeout": 3, "host_stopped": 37}
    assert ends["limits.test"] == {"rate_limited": 3, "host_stopped": 37}
    assert alone_s >= DELAY_S * PICTURES_PER_HOST, "spacing was kept"
