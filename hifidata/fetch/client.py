"""The fetcher: one call per URL, one result per call.

    async with Fetcher(FetcherConfig(contact="crawl@example.org")) as fetcher:
        result = await fetcher.fetch(FetchRequest("https://example.org/a.jpg"))

Start as many calls at once as memory allows for their results; the fetcher gives out turns by itself.
"""

from __future__ import annotations

import hashlib
import ssl
import time
from contextlib import AsyncExitStack
from datetime import datetime, timezone
from types import TracebackType

import aiohttp

from hifidata.fetch.address_guard import Guard
from hifidata.fetch.body import check_picture, read_body
from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.headers import check_status, conditions, opt_out, validator
from hifidata.fetch.reasons import BAD_RESPONSE, HASH_MISMATCH, OPTED_OUT, PLACEHOLDER, RETRYABLE_REASONS
from hifidata.fetch.request import Answer, Ask, Hops
from hifidata.fetch.resolve import Lookup, SystemLookup
from hifidata.fetch.result import FetchFailure, FetchRequest, FetchResult, Journey
from hifidata.fetch.robots import Robots
from hifidata.fetch.throttle import Politeness
from hifidata.fetch.transport import Transport, affordable_connections

_ACCEPT = "image/avif,image/webp,image/jpeg,image/png,image/*;q=0.9,*/*;q=0.5"


class Fetcher:
    """Fetches pictures from many hosts at once. Use it as an async context manager, within one event loop.

    Args:
        settings: limits and manners.
        lookup: names to addresses; the system's by default. Its answers are judged like any other.
        ssl_context: other trust anchors than the system's, for instance of a company's own authority.

    Raises:
        RecipeError: the settings lead into the open web and name no contact.
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
        guard = Guard(settings.allow_private, open_web=bool(settings.contact))
        politeness = Politeness(settings, affordable_connections(settings.max_connections))
        lookup = self._lookup
        if lookup is None:
            lookup = SystemLookup()
            self._exits.callback(lookup.close)
        transport = await self._exits.enter_async_context(Transport(settings, guard, lookup, self._ssl_context))
        self._hops = Hops(settings, guard, politeness, transport)
        self._robots = Robots(settings, self._hops)
        self._exits.push_async_callback(self._robots.aclose)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    async def fetch(self, request: FetchRequest) -> FetchResult:
        """Fetches one URL; whatever becomes of it is in the result."""
        began_s = time.monotonic()
        journey = Journey(self._settings.total_timeout_s)
        headers = {"Accept": _ACCEPT, **dict(conditions(request.etag, request.last_modified))}
        answer, failure = None, None
        try:
            answer = await self._hops.travel(request.url, Ask(headers, self._robots.admit, self._read), journey)
            self._check(request, answer, journey)
        except FetchFailure as caught:
            failure = caught
        return _result(request, answer, failure, journey, time.monotonic() - began_s)

    async def _read(self, response: aiohttp.ClientResponse, host: str) -> bytes | None:
        check_status(response.status, response.headers, host)  # first: error pages like to call themselves noindex
        if self._settings.respect_opt_out:
            header = opt_out(response.headers, self._settings.user_agent_name, self._settings.opt_out_directives)
            if header is not None:
                raise FetchFailure(OPTED_OUT, f"{host} opts out by {header}")
        return await read_body(response, self._settings.max_bytes) if response.status == 200 else None

    def _check(self, request: FetchRequest, answer: Answer, journey: Journey) -> None:
        """Whether the bytes are the picture that was asked for."""
        if answer.body is None:
            if not (request.etag or request.last_modified):
                raise FetchFailure(BAD_RESPONSE, f"{answer.host} answered 304 to an unconditional request")
            return
        journey.n_bytes = len(answer.body)
        journey.content_sha256 = digest = hashlib.sha256(answer.body).hexdigest()
        check_picture(answer.body)
        if digest in self._settings.placeholder_sha256:
            raise FetchFailure(PLACEHOLDER, f"{answer.host} sent a picture known to stand for a removed one")
        expected = request.expected_sha256
        if expected and digest != expected.strip().lower():
            message = f"sha256 {digest[:12]}.., expected {expected[:12]!a}..; the picture has changed"
            raise FetchFailure(HASH_MISMATCH, message)


def _result(
    request: FetchRequest, answer: Answer | None, failure: FetchFailure | None, journey: Journey, total_s: float
) -> FetchResult:
    """``answer`` may be there beside a failure: bytes that came and were refused."""
    ok = failure is None and answer is not None
    return FetchResult(
        url=request.url,
        final_url=journey.final_url,
        ok=ok,
        reason=failure.reason if failure else None,
        message=failure.message if failure else None,
        http_status=journey.http_status,
        attempts=journey.attempts,
        content=answer.body if answer and ok else None,
        content_sha256=journey.content_sha256,
        n_bytes=journey.n_bytes,
        etag=validator(answer.headers, "ETag") if answer else None,
        last_modified=validator(answer.headers, "Last-Modified") if answer else None,
        not_modified=ok and answer is not None and answer.status == 304,
        retryable=failure is not None and failure.reason in RETRYABLE_REASONS,
        fetched_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        queued_s=journey.queued_s,
        connect_s=journey.connect_s,
        response_s=journey.response_s,
        total_s=total_s,
    )
