"""Whose turn it is: spacing, back-off and stopping per host, and the limit over all hosts.

A request first waits within its own host's queue and only then, ready to go, takes one of the common slots. So a slow,
paused or dead host holds back nobody but its own URLs.
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
_HOSTS_BEFORE_TIDYING = 4096


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


class Turn:
    """One request under way. Whoever makes it notes when it is sent and how long the headers took."""

    def __init__(self, host: _Host) -> None:
        self._host = host
        self.response_s = 0.0

    def sent(self) -> None:
        """Spacing counts from here: what the host sees is when requests arrive, not when we began to connect."""
        self._host.last_start_s = time.monotonic()


class Politeness:
    """Gives out turns. All times are of the monotonic clock."""

    def __init__(self, settings: FetcherConfig, max_connections: int | None = None) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(max_connections or settings.max_connections)
        self._hosts: dict[str, _Host] = {}
        self._tidy_at = _HOSTS_BEFORE_TIDYING

    @property
    def n_hosts(self) -> int:
        """Hosts that are remembered."""
        return len(self._hosts)

    @asynccontextmanager
    async def turn(self, name: str, crawl_delay_s: float = 0.0) -> AsyncIterator[Turn]:
        """Waits for the host's turn; a ``FetchFailure`` inside is noted against the host.

        Args:
            name: the host.
            crawl_delay_s: what its robots.txt asks for.

        Raises:
            FetchFailure: ``host_stopped``.
        """
        host = self._remembered(name)
        host.n_users += 1
        try:
            async with host.connections:
                async with host.starting:
                    await self._wait_for_start(name, host, crawl_delay_s)
                turn = Turn(host)
                try:
                    yield turn
                except FetchFailure as failure:
                    self._note(host, failure)
                    raise
                else:
                    host.errors_in_row = 0
                finally:
                    host.response_s = turn.response_s or host.response_s
                    self._slots.release()
        finally:
            host.n_users -= 1

    async def _wait_for_start(self, name: str, host: _Host, crawl_delay_s: float) -> None:
        """Returns with one of the common slots taken and the start noted."""
        delay_s = max(self._settings.delay_s, crawl_delay_s)
        while True:
            wait_s = self._wait_s(name, host, delay_s)
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                continue
            await self._slots.acquire()
            granted = False
            try:  # waiting for a slot takes time, in which the host may have been paused or stopped
                granted = self._wait_s(name, host, delay_s) <= 0
                if granted:
                    host.last_start_s = time.monotonic()
                    return
            finally:
                if not granted:
                    self._slots.release()

    def _wait_s(self, name: str, host: _Host, delay_s: float) -> float:
        now_s = time.monotonic()
        if now_s < host.stopped_until_s:
            message = (
                f"{name} was stopped after {self._settings.max_host_errors} errors in a row; last: {host.last_error}"
            )
            raise FetchFailure(HOST_STOPPED, message)
        slow_s = min(self._settings.slowdown * host.response_s, _MAX_SLOWDOWN_S)
        return max(host.last_start_s + max(delay_s, slow_s), host.paused_until_s) - now_s

    def _note(self, host: _Host, failure: FetchFailure) -> None:
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

    def _remembered(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            if len(self._hosts) >= self._tidy_at:
                self._forget_idle()
            host = self._hosts[name] = _Host(asyncio.Semaphore(self._settings.connections_per_host))
        return host

    def _forget_idle(self) -> None:
        """Drops hosts that nobody waits for and that are owed no wait; at worst twice the busy ones are remembered."""
        now_s = time.monotonic()
        settings = self._settings
        owed_s = max(settings.delay_s, settings.max_crawl_delay_s, _MAX_SLOWDOWN_S if settings.slowdown else 0.0)
        self._hosts = {
            name: host
            for name, host in self._hosts.items()
            if host.n_users
            or now_s < max(host.paused_until_s, host.stopped_until_s)
            or now_s - host.last_start_s < owed_s
        }
        self._tidy_at = max(_HOSTS_BEFORE_TIDYING, 2 * len(self._hosts))
