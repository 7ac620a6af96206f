"""Send a request until it has its final response: retries, redirects, and before each request guard, robots.txt, throttle."""

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
from hifidata.fetch.reasons import BAD_REDIRECT, BAD_RESPONSE, COOKIE_WALL, HOST_STOPPED, TOO_MANY_REDIRECTS
from hifidata.fetch.result import FetchFailure, FetchTrace
from hifidata.fetch.throttle import Throttle
from hifidata.fetch.transport import Transport


@dataclass(frozen=True)
class FinalResponse:
    """The response after all redirects; the body is there if ``RequestSpec.read`` read it."""

    host: str
    status: int
    headers: Headers
    body: bytes | None


@dataclass(frozen=True)
class RequestSpec:
    """A request and how its response is read.

    Attributes:
        headers: of the request.
        admit: apply the site's rules to a URL before anything is sent; returns the crawl delay in seconds or raises
            FetchFailure.
        read: read a response that is not a redirect; returns its body, None to skip it, or raises FetchFailure.
    """

    headers: Mapping[str, str]
    admit: Callable[[ParsedUrl], Awaitable[float]]
    read: Callable[[aiohttp.ClientResponse, str], Awaitable[bytes | None]]


class RequestChain:
    """Send requests with retries and redirects."""

    def __init__(self, settings: FetcherConfig, guard: Guard, throttle: Throttle, transport: Transport) -> None:
        self._settings = settings
        self._guard = guard
        self._throttle = throttle
        self._transport = transport

    async def send(self, url: str, spec: RequestSpec, trace: FetchTrace) -> FinalResponse:
        """Try until there is a response, a permanent error, or no time or try left.

        Raises:
            FetchFailure: the last try failed.
        """
        start = self._guard.check_url(url)
        cause: FetchFailure | None = None
        while True:
            trace.try_number += 1
            try:
                return await self._follow_redirects(start, spec, trace)
            except FetchFailure as failure:
                if cause is not None and failure.reason is HOST_STOPPED:
                    raise cause from failure  # an earlier try was sent; its error is the real one
                is_repeated = cause is not None and failure.reason is cause.reason is BAD_RESPONSE
                cause = failure
                is_last = is_repeated or trace.try_number >= self._settings.tries or trace.network_left_s <= 0
                if is_last or not failure.transient:
                    raise
            wait_s = full_jitter_s(backoff_s(self._settings.backoff_s, trace.try_number))
            trace.queued_s += wait_s
            await asyncio.sleep(wait_s)

    async def _follow_redirects(self, url: ParsedUrl, spec: RequestSpec, trace: FetchTrace) -> FinalResponse:
        requested, sets_cookie = {str(url.url)}, False
        for _ in range(self._settings.max_redirects + 1):
            response = await self._send_once(url, spec, trace)
            if response.status not in REDIRECT_STATUSES:
                return response
            location = response.headers.get("location")
            if not location:
                raise FetchFailure(BAD_REDIRECT, f"{url.host} answered {response.status} without a Location")
            sets_cookie = sets_cookie or "set-cookie" in response.headers
            url = self._guard.follow(url, location)
            if sets_cookie and str(url.url) in requested:
                raise FetchFailure(COOKIE_WALL, f"{response.host} sets a cookie and redirects to the same URL again")
            requested.add(str(url.url))
        raise FetchFailure(TOO_MANY_REDIRECTS, f"more than {self._settings.max_redirects} redirects")

    async def _send_once(self, url: ParsedUrl, spec: RequestSpec, trace: FetchTrace) -> FinalResponse:
        began_s = time.monotonic()
        crawl_delay_s = await spec.admit(url)
        async with self._throttle.slot(url.host, crawl_delay_s) as slot:
            trace.queued_s += time.monotonic() - began_s
            trace.attempts = trace.try_number
            async with self._transport.get(url, spec.headers, trace, slot) as response:
                body = None
                if response.status not in REDIRECT_STATUSES:
                    body = await spec.read(response, url.host)
                return FinalResponse(url.host, response.status, response.headers, body)
