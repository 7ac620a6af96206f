"""Limit requests: spacing, backoff and stopping per host, and a limit on all connections together.

A request first waits in the queue of its host. Only then it takes one of the common connections. A slow, paused or dead
host therefore delays only its own URLs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hifidata.core.retry import backoff_s, spread_s
from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.reasons import HOST_FAULT_REASONS, HOST_STOPPED, HTTP_5XX, RATE_LIMITED
from hifidata.fetch.result import FetchFailure

_MAX_SLOWDOWN_S = 10.0
_HOSTS_BEFORE_CLEANUP = 4096


@dataclass
class _Host:
    connections: asyncio.Semaphore
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    n_users: int = 0
    last_start_s: float = float("-inf")
    response_s: float = 0.0
    paused_until_s: float = 0.0
    stopped_until_s: float = 0.0
    errors_in_row: int = 0
    last_error: str = ""


class Slot:
    """The permission to send one request. The transport records when it is sent and how long its headers took."""

    def __init__(self, host: _Host) -> None:
        self._host = host
        self.response_s = 0.0

    def note_sent(self) -> None:
        """Start the spacing now: the host sees when a request arrives, not when connecting began."""
        self._host.last_start_s = time.monotonic()


class Throttle:
    """Grant slots. All times are of the monotonic clock."""

    def __init__(self, settings: FetcherConfig, max_connections: int | None = None) -> None:
        self._settings = settings
        self._connections = asyncio.Semaphore(max_connections or settings.max_connections)
        self._hosts: dict[str, _Host] = {}
        self._cleanup_at = _HOSTS_BEFORE_CLEANUP

    @property
    def n_hosts(self) -> int:
        """Number of hosts in memory."""
        return len(self._hosts)

    @asynccontextmanager
    async def slot(self, name: str, crawl_delay_s: float = 0.0) -> AsyncIterator[Slot]:
        """Wait until the host may get a request. A ``FetchFailure`` inside the block counts against the host.

        Args:
            name: the host.
            crawl_delay_s: of its robots.txt.

        Raises:
            FetchFailure: ``host_stopped``.
        """
        host = self._host(name)
        host.n_users += 1
        try:
            async with host.connections:
                async with host.starting:
                    await self._wait_for_start(name, host, crawl_delay_s)
                slot = Slot(host)
                try:
                    yield slot
                except FetchFailure as failure:
                    self._record(host, failure)
                    raise
                else:
                    host.errors_in_row = 0
                finally:
                    host.response_s = slot.response_s or host.response_s
                    self._connections.release()
        finally:
            host.n_users -= 1

    async def _wait_for_start(self, name: str, host: _Host, crawl_delay_s: float) -> None:
        """Take one of the common connections and record the start."""
        delay_s = max(self._settings.delay_s, crawl_delay_s)
        while True:
            wait_s = self._wait_s(name, host, delay_s)
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                continue
            await self._connections.acquire()
            granted = False
            try:  # the host may have been paused or stopped during this wait
                granted = self._wait_s(name, host, delay_s) <= 0
                if granted:
                    host.last_start_s = time.monotonic()
                    return
            finally:
                if not granted:
                    self._connections.release()

    def _wait_s(self, name: str, host: _Host, delay_s: float) -> float:
        now_s = time.monotonic()
        if now_s < host.stopped_until_s:
            message = (
                f"{name} was stopped after {self._settings.max_host_errors} errors in a row; last: {host.last_error}"
            )
            raise FetchFailure(HOST_STOPPED, message)
        slow_s = min(self._settings.slowdown * host.response_s, _MAX_SLOWDOWN_S)
        return max(host.last_start_s + max(delay_s, slow_s), host.paused_until_s) - now_s

    def _record(self, host: _Host, failure: FetchFailure) -> None:
        if failure.reason not in HOST_FAULT_REASONS:
            host.errors_in_row = 0
            return
        now_s = time.monotonic()
        host.errors_in_row += 1
        host.last_error = str(failure.reason)
        if host.errors_in_row >= self._settings.max_host_errors:
            host.stopped_until_s = now_s + self._settings.host_stop_s
            host.errors_in_row = 0
        if failure.reason in (RATE_LIMITED, HTTP_5XX):
            wait_s = failure.retry_after_s
            if wait_s is None:
                wait_s = backoff_s(self._settings.backoff_s, host.errors_in_row + 1)
            wait_s = spread_s(min(wait_s, self._settings.max_retry_after_s))
            host.paused_until_s = max(host.paused_until_s, now_s + wait_s)

    def _host(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            if len(self._hosts) >= self._cleanup_at:
                self._remove_idle_hosts()
            host = self._hosts[name] = _Host(asyncio.Semaphore(self._settings.connections_per_host))
        return host

    def _remove_idle_hosts(self) -> None:
        """Remove hosts without users and without a remaining wait; at most twice the busy hosts stay in memory."""
        now_s = time.monotonic()
        settings = self._settings
        delay_s = max(settings.delay_s, settings.max_crawl_delay_s, _MAX_SLOWDOWN_S if settings.slowdown else 0.0)
        self._hosts = {
            name: host
            for name, host in self._hosts.items()
            if host.n_users
            or now_s < max(host.paused_until_s, host.stopped_until_s)
            or now_s - host.last_start_s < delay_s
        }
        self._cleanup_at = max(_HOSTS_BEFORE_CLEANUP, 2 * len(self._hosts))
