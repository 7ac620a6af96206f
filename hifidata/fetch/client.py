"""Fetch images: one call per URL, one result per call.

    async with Fetcher(FetcherConfig(contact="crawl@example.org")) as fetcher:
        result = await fetcher.fetch(FetchRequest("https://example.org/a.jpg"))

Start as many calls at once as memory allows for their results; the fetcher limits the requests.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import time
from contextlib import AsyncExitStack
from datetime import datetime, timezone
from types import TracebackType

import aiohttp

from hifidata.fetch.address_guard import Guard
from hifidata.fetch.body import check_image, read_body, read_start
from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.headers import check_status, conditions, has_whole_body, opt_out, validator
from hifidata.fetch.reasons import BAD_RESPONSE, HASH_MISMATCH, OPTED_OUT, PLACEHOLDER, REFERER_WALL, RETRYABLE_REASONS
from hifidata.fetch.request import FinalResponse, RequestChain, RequestSpec
from hifidata.fetch.resolve import Lookup, SystemLookup
from hifidata.fetch.result import FetchFailure, FetchRequest, FetchResult, FetchTrace, unexpected_failure
from hifidata.fetch.robots import Robots
from hifidata.fetch.throttle import Throttle
from hifidata.fetch.transport import Transport, allowed_connections

WALL_STATUSES = frozenset({401, 403})
_MAX_REFUSAL_BYTES = 4096
_HOTLINK = re.compile(rb"hot-?\s?link|referr?er", re.IGNORECASE)
_ACCEPT = "image/avif,image/webp,image/jpeg,image/png,image/*;q=0.9,*/*;q=0.5"


class Fetcher:
    """Fetch images from many hosts at once. Use it as an async context manager, within one event loop.

    Args:
        settings: limits, User-Agent and opt-out rules.
        lookup: DNS lookup; the system's by default. The guard checks its answers, too.
        ssl_context: other trust anchors than the system's, for example a company's own certificate authority.

    Raises:
        RecipeError: the settings allow public addresses and have no contact.
    """

    def __init__(
        self, settings: FetcherConfig, *, lookup: Lookup | None = None, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        settings.require_contact()
        self._settings = settings
        self._lookup = lookup
        self._ssl_context = ssl_context
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Fetcher:
        settings = self._settings
        self._guard = guard = Guard(settings.allow_private, open_web=bool(settings.contact))
        throttle = Throttle(settings, allowed_connections(settings.max_connections))
        lookup = self._lookup
        if lookup is None:
            lookup = SystemLookup()
            self._exits.callback(lookup.close)
        transport = await self._exits.enter_async_context(Transport(settings, guard, lookup, self._ssl_context))
        self._chain = RequestChain(settings, guard, throttle, transport)
        self._robots = Robots(settings, self._chain)
        self._exits.push_async_callback(self._robots.aclose)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    async def fetch(self, request: FetchRequest) -> FetchResult:
        """Fetch one URL. Failures are part of the result, not exceptions."""
        began_s = time.monotonic()
        trace = FetchTrace(self._settings.total_timeout_s)
        response, failure = None, None
        try:
            headers = {"Accept": _ACCEPT, **dict(conditions(request.etag, request.last_modified))}
            headers |= self._referer(request)
            response = await self._chain.send(request.url, RequestSpec(headers, self._robots.admit, self._read), trace)
            self._check(request, response, trace)
        except FetchFailure as caught:
            failure = caught
        except Exception as error:  # noqa: BLE001  it costs this URL, not the crawl
            failure = unexpected_failure(error)
        return _result(request, response, failure, trace, time.monotonic() - began_s)

    def _referer(self, request: FetchRequest) -> dict[str, str]:
        """Return the Referer header; none from an https page to an http image (RFC 9110, section 10.1.3)."""
        if self._settings.referer is None or not request.landing_page:
            return {}
        try:
            page = self._guard.check_url(request.landing_page).url
        except FetchFailure:
            return {}
        is_leak = page.scheme == "https" and request.url.strip()[:5].lower() == "http:"
        return {} if is_leak else {"Referer": str(page)}

    async def _read(self, response: aiohttp.ClientResponse, host: str) -> bytes | None:
        if response.status in WALL_STATUSES:
            await self._check_referer_wall(response, host)
        check_status(response.status, response.headers, host)  # first: many error pages are marked noindex
        if self._settings.respect_opt_out:
            header = opt_out(response.headers, self._settings.user_agent_name, self._settings.opt_out_directives)
            if header is not None:
                raise FetchFailure(OPTED_OUT, f"{host} opts out by {header}")
        if not has_whole_body(response.status, response.headers):
            return None
        return await read_body(response, self._settings.max_bytes)

    async def _check_referer_wall(self, response: aiohttp.ClientResponse, host: str) -> None:
        """Raise FetchFailure if the page of a refusal speaks of hotlinks or of the Referer."""
        try:
            page, _ = await read_start(response, _MAX_REFUSAL_BYTES)
        except (FetchFailure, aiohttp.ClientError, asyncio.TimeoutError):  # the refusal itself is clear
            return
        if _HOTLINK.search(page):
            sent = (
                "which it does not accept" if "Referer" in response.request_info.headers else "fetch.referer sends it"
            )
            message = f"{host} answered {response.status} and asks for the Referer of its own page; {sent}"
            raise FetchFailure(REFERER_WALL, message)

    def _check(self, request: FetchRequest, response: FinalResponse, trace: FetchTrace) -> None:
        """Check that the bytes are the requested image."""
        if response.body is None:
            if not (request.etag or request.last_modified):
                raise FetchFailure(BAD_RESPONSE, f"{response.host} answered 304 to an unconditional request")
            return
        trace.n_bytes = len(response.body)
        trace.content_sha256 = digest = hashlib.sha256(response.body).hexdigest()
        check_image(response.body)
        if digest in self._settings.placeholder_sha256:
            raise FetchFailure(PLACEHOLDER, f"{response.host} sent the known placeholder of a removed image")
        expected = request.expected_sha256
        if expected and digest != expected.strip().lower():
            message = f"sha256 {digest[:12]}.., expected {expected[:12]!a}..; the image has changed"
            raise FetchFailure(HASH_MISMATCH, message)


def _result(
    request: FetchRequest,
    response: FinalResponse | None,
    failure: FetchFailure | None,
    trace: FetchTrace,
    total_s: float,
) -> FetchResult:
    """Combine response and failure; both are there if the received bytes were refused."""
    ok = failure is None and response is not None
    return FetchResult(
        url=request.url,
        final_url=trace.final_url,
        ok=ok,
        reason=failure.reason if failure else None,
        message=failure.message if failure else None,
        http_status=trace.http_status,
        attempts=trace.attempts,
        content=response.body if response and ok else None,
        content_sha256=trace.content_sha256,
        n_bytes=trace.n_bytes,
        etag=validator(response.headers, "ETag") if response else None,
        last_modified=validator(response.headers, "Last-Modified") if response else None,
        not_modified=ok and response is not None and response.status == 304,
        retryable=failure is not None and failure.reason in RETRYABLE_REASONS,
        fetched_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        queued_s=trace.queued_s,
        connect_s=trace.connect_s,
        response_s=trace.response_s,
        total_s=total_s,
    )
