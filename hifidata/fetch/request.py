"""A URL's way: tries, redirects, and at every hop the guard, the site's rules and the host's turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp

from hifidata.core.retry import backoff_s, full_jitter_s
from hifidata.fetch.address_guard import Guard, ParsedUrl
from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.headers import REDIRECT_STATUSES, Headers
from hifidata.fetch.reasons import BAD_REDIRECT, HOST_STOPPED, TOO_MANY_REDIRECTS
from hifidata.fetch.result import FetchFailure, Journey
from hifidata.fetch.throttle import Politeness
from hifidata.fetch.transport import Transport


@dataclass(frozen=True)
class Answer:
    """The answer that ended a way: headers, and the body where ``Ask.read`` read it."""

    host: str
    status: int
    headers: Headers
    body: bytes | None


@dataclass(frozen=True)
class Ask:
    """What is asked for, and how the answer is taken.

    Attributes:
        headers: of the request.
        admit: the site's rules for a hop, before anything is sent; gives the crawl-delay in seconds or raises FetchFailure.
        read: takes a response that is no redirect; gives its body, None where it is not wanted, or raises FetchFailure.
    """

    headers: Mapping[str, str]
    admit: Callable[[ParsedUrl], Awaitable[float]]
    read: Callable[[aiohttp.ClientResponse, str], Awaitable[bytes | None]]


class Hops:
    """Takes URLs to their answers."""

    def __init__(self, settings: FetcherConfig, guard: Guard, politeness: Politeness, transport: Transport) -> None:
        self._settings = settings
        self._guard = guard
        self._politeness = politeness
        self._transport = transport

    async def travel(self, url: str, ask: Ask, journey: Journey) -> Answer:
        """Tries until there is an answer, a lasting error, or no time or try left.

        Raises:
            FetchFailure: of the last try.
        """
        start = self._guard.check_url(url)
        cause: FetchFailure | None = None
        while True:
            journey.try_number += 1
            try:
                return await self._follow(start, ask, journey)
            except FetchFailure as failure:
                if cause is not None and failure.reason is HOST_STOPPED:
                    raise cause from failure  # the URL was really asked for, and that is how it failed
                cause = failure
                is_last = journey.try_number >= self._settings.tries or journey.network_left_s <= 0
                if is_last or not failure.transient:
                    raise
            pause_s = full_jitter_s(backoff_s(self._settings.backoff_s, journey.try_number))
            journey.queued_s += pause_s
            await asyncio.sleep(pause_s)

    async def _follow(self, url: ParsedUrl, ask: Ask, journey: Journey) -> Answer:
        for _ in range(self._settings.max_redirects + 1):
            answer = await self._hop(url, ask, journey)
            if answer.status not in REDIRECT_STATUSES:
                return answer
            location = answer.headers.get("location")
            if not location:
                raise FetchFailure(BAD_REDIRECT, f"{url.host} answered {answer.status} without a Location")
            url = self._guard.follow(url, location)
        raise FetchFailure(TOO_MANY_REDIRECTS, f"more than {self._settings.max_redirects} redirects")

    async def _hop(self, url: ParsedUrl, ask: Ask, journey: Journey) -> Answer:
        began_s = time.monotonic()
        crawl_delay_s = await ask.admit(url)
        async with self._politeness.turn(url.host, crawl_delay_s) as turn:
            journey.queued_s += time.monotonic() - began_s
            journey.attempts = journey.try_number
            async with self._transport.get(url, ask.headers, journey, turn) as response:
                body = None
                if response.status not in REDIRECT_STATUSES:
                    body = await ask.read(response, url.host)
                return Answer(url.host, response.status, response.headers, body)
