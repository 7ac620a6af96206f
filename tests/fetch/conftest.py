"""A hostile server, and settings that lose no time on loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from hifidata.fetch.client import Fetcher
from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.resolve import Lookup
from hifidata.fetch.result import FetchRequest, FetchResult
from tests.servers.hostile import HostileServer

LOOPBACK = ("127.0.0.0/8",)


def quick(**changes: Any) -> FetcherConfig:
    """No spacing, short limits, many connections; ``changes`` as for FetcherConfig."""
    values: dict[str, Any] = {
        "allow_private": LOOPBACK, "delay_s": 0.0, "slowdown": 0.0, "connections_per_host": 32, "backoff_s": 0.01,
        "dns_timeout_s": 0.5, "connect_timeout_s": 0.5, "read_timeout_s": 0.6, "total_timeout_s": 1.5,
        "max_bytes": 1024 * 1024, "max_host_errors": 1000, "obey_robots": False,
    }  # fmt: skip
    return FetcherConfig(**{**values, **changes})


def fetch_all(
    settings: FetcherConfig,
    requests: Sequence[FetchRequest | str],
    lookup: Lookup | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> list[FetchResult]:
    """All at once, by one fetcher; results in the order of the requests."""

    async def run() -> list[FetchResult]:
        async with Fetcher(settings, lookup=lookup, ssl_context=ssl_context) as fetcher:
            asked = [FetchRequest(request) if isinstance(request, str) else request for request in requests]
            return await asyncio.gather(*(fetcher.fetch(request) for request in asked))

    return asyncio.run(run())


def fetch_one(settings: FetcherConfig, request: FetchRequest | str, lookup: Lookup | None = None) -> FetchResult:
    return fetch_all(settings, [request], lookup)[0]


def lookup_table(addresses: dict[str, Sequence[str]]) -> Lookup:
    """Names from a table, and nothing else."""

    async def lookup(host: str) -> Sequence[str]:
        return addresses[host]

    return lookup


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer() as running:
        yield running


@pytest.fixture
def serve() -> Iterator[Callable[..., HostileServer]]:
    """Starts servers that end with the test."""
    running: list[HostileServer] = []

    def start(**attributes: Any) -> HostileServer:
        running.append(HostileServer(**attributes).__enter__())
        return running[-1]

    yield start
    for one in running:
        one.__exit__()
