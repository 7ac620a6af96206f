"""Apply robots.txt per RFC 9309: one request per origin and day. An unreachable robots.txt counts as disallow-all."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import aiohttp
from protego import Protego
from yarl import URL

from hifidata.core.reasons import Reason
from hifidata.core.retry import retry_after_s
from hifidata.fetch.address_guard import ParsedUrl
from hifidata.fetch.body import read_start
from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.reasons import (
    BAD_RESPONSE,
    BLOCKED_ADDRESS,
    CONNECT_ERROR,
    CRAWL_DELAY_TOO_LONG,
    DNS_ERROR,
    HOST_STOPPED,
    HTTP_5XX,
    RATE_LIMITED,
    ROBOTS_DISALLOWED,
    ROBOTS_UNREACHABLE,
    TLS_ERROR,
    UNKNOWN_HOST,
)
from hifidata.fetch.request import RequestChain, RequestSpec
from hifidata.fetch.result import FetchFailure, FetchTrace

MAX_ROBOTS_BYTES = 500 * 1024  # RFC 9309 2.5
_CACHE_S = 24 * 3600.0  # RFC 9309 2.4
_FAILURE_CACHE_S = 300.0  # as Nutch waits before it retries a failing host
_MAX_CACHED_CHARS = 8 * 1024 * 1024  # the parser needs up to 40 times as many bytes
_CHARS_PER_ENTRY = 1024  # memory of an origin besides its text
_INLINE_BYTES = 16 * 1024  # longer files are parsed off the event loop
_AGENT_LINE = re.compile(r"\s*user[\s-]?agent\s*[:\s]\s*(\*|[a-z_-]*)", re.IGNORECASE)
# These lines neither end the agent lines of a group nor are rules.
_NO_RULE = re.compile(r"\s*(#|$|site-?maps?\b|host\b)", re.IGNORECASE)
_HOST_REASONS = frozenset(
    {
        BLOCKED_ADDRESS,
        UNKNOWN_HOST,
        DNS_ERROR,
        CONNECT_ERROR,
        TLS_ERROR,
        HOST_STOPPED,
    }
)
"""Failures that the image's own request would have, too; its row keeps this reason instead of robots_unreachable."""


@dataclass(frozen=True)
class RobotsRules:
    """The rules of one origin's robots.txt.

    Attributes:
        rules: the parsed file; None allows everything.
        refusal: reason and message for every URL of the origin.
        n_chars: approximate memory use.
    """

    rules: Protego | None = None
    refusal: tuple[Reason, str] | None = None
    n_chars: int = _CHARS_PER_ENTRY

    @property
    def is_final(self) -> bool:
        """Whether these rules come from the site and not from a failed request."""
        return self.refusal is None or self.refusal[0] is ROBOTS_DISALLOWED

    def check(self, url: ParsedUrl, agent_name: str, max_crawl_delay_s: float) -> float:
        """Return the crawl delay in seconds; 0 if there is none.

        Raises:
            FetchFailure: the URL must not be fetched.
        """
        if self.refusal is not None:
            raise FetchFailure(*self.refusal, transient=False)
        if self.rules is None:
            return 0.0
        text = str(url.url)
        spellings = {text, str(URL(text))}  # a rule also holds for the path without dot segments
        if not all(self.rules.can_fetch(spelling, agent_name) for spelling in spellings):
            raise FetchFailure(ROBOTS_DISALLOWED, f"{url.host}: its robots.txt disallows this URL")
        delay_s = self.rules.crawl_delay(agent_name) or 0.0
        rate = self.rules.request_rate(agent_name)
        if rate is not None:
            delay_s = max(delay_s, rate.seconds / rate.requests)
        if delay_s > max_crawl_delay_s:
            message = f"{url.host} asks for {delay_s:g} s between requests, the limit is {max_crawl_delay_s:g} s"
            raise FetchFailure(CRAWL_DELAY_TOO_LONG, message)
        return delay_s


def lines_for(text: str, agent_name: str) -> Iterator[str]:
    """Yield the lines of the groups for ``*`` and for our agent.

    The parser copies every rule to every agent of its group. A file of 65 KB with 2,000 agents and 2,000 rules took 8 s
    and 200 MB. It therefore gets no lines for other agents.
    """
    is_ours = among_agents = False
    for line in text.removeprefix("\ufeff").splitlines():
        found = _AGENT_LINE.match(line)
        if found is not None:
            named = found[1].lower() in ("*", agent_name.lower())
            is_ours = named or (is_ours and among_agents)
            among_agents = True
            if named:
                yield f"User-agent: {found[1]}"  # without the version after the name, which the parser would compare
        elif not _NO_RULE.match(line):
            among_agents = False
            if is_ours:
                yield line


class Robots:
    """Fetch, cache and apply the robots.txt of every origin.

    Args:
        settings: the product token, the longest crawl delay, the time limit.
        chain: fetches the file with the same guard, throttle and retries as an image.
    """

    def __init__(self, settings: FetcherConfig, chain: RequestChain) -> None:
        self._settings = settings
        self._chain = chain
        self._entries: OrderedDict[str, tuple[float, RobotsRules]] = OrderedDict()
        self._loading: dict[str, asyncio.Task[RobotsRules]] = {}
        self._n_chars = 0

    async def admit(self, url: ParsedUrl) -> float:
        """Return the crawl delay in seconds; 0 if there is none.

        Raises:
            FetchFailure: the site disallows this URL, or its robots.txt could not be fetched.
        """
        if not self._settings.obey_robots:
            return 0.0
        rules = self._cached(url.origin)
        if rules is None:
            rules = await self._load_once(url.origin)
        return rules.check(url, self._settings.user_agent_name, self._settings.max_crawl_delay_s)

    async def aclose(self) -> None:
        """Cancel pending requests."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _cached(self, origin: str) -> RobotsRules | None:
        expires_s, rules = self._entries.get(origin, (0.0, None))
        if rules is None or time.monotonic() >= expires_s:
            return None
        self._entries.move_to_end(origin)
        return rules

    async def _load_once(self, origin: str) -> RobotsRules:
        """Load the file once for all concurrent callers; a cancelled caller does not cancel the others."""
        task = self._loading.get(origin)
        if task is None:
            task = self._loading[origin] = asyncio.create_task(self._load(origin))
            task.add_done_callback(lambda _: self._loading.pop(origin, None))
        return await asyncio.shield(task)

    async def _load(self, origin: str) -> RobotsRules:
        trace = FetchTrace(self._settings.total_timeout_s)
        truncated = False

        async def read(response: aiohttp.ClientResponse, host: str) -> bytes | None:
            """Return the body up to the limit and note whether it was truncated."""
            nonlocal truncated
            _check_robots_status(response, host)
            if response.status != 200:
                return None
            body, truncated = await read_start(response, MAX_ROBOTS_BYTES)
            return body

        try:
            response = await self._chain.send(f"{origin}/robots.txt", RequestSpec({}, _allow_all, read), trace)
        except FetchFailure as failure:
            rules = RobotsRules(refusal=_refusal(failure))
        else:
            rules = await self._rules_of(response.body, truncated)
        self._store(origin, rules)
        return rules

    async def _rules_of(self, body: bytes | None, truncated: bool) -> RobotsRules:
        if body is None:
            return RobotsRules()
        if truncated:  # a truncated line may allow more than the complete one
            body = body[: body.rfind(b"\n") + 1]
        parse = partial(_parsed, body, self._settings.user_agent_name)
        return parse() if len(body) <= _INLINE_BYTES else await asyncio.to_thread(parse)

    def _store(self, origin: str, rules: RobotsRules) -> None:
        expires_s = time.monotonic() + (_CACHE_S if rules.is_final else _FAILURE_CACHE_S)
        _, before = self._entries.pop(origin, (0.0, None))
        self._n_chars += rules.n_chars - (before.n_chars if before else 0)
        self._entries[origin] = expires_s, rules
        while self._n_chars > _MAX_CACHED_CHARS and len(self._entries) > 1:
            _, (_, oldest) = self._entries.popitem(last=False)
            self._n_chars -= oldest.n_chars


def _parsed(body: bytes, agent_name: str) -> RobotsRules:
    text = "\n".join(lines_for(body.decode("utf-8", "replace"), agent_name))
    return RobotsRules(Protego.parse(text), n_chars=_CHARS_PER_ENTRY + len(text))


async def _allow_all(_: ParsedUrl) -> float:
    """Allow robots.txt itself, which needs no permission (RFC 9309 2.2.2)."""
    return 0.0


def _check_robots_status(response: aiohttp.ClientResponse, host: str) -> None:
    """Accept 200 and most of 4xx. 401 and 403 count as disallow-all, which RFC 9309 permits."""
    status = response.status
    message = f"{host} answered {status} for robots.txt"
    if status in (401, 403):
        raise FetchFailure(ROBOTS_DISALLOWED, message)
    if status == 429:
        raise FetchFailure(RATE_LIMITED, message, retry_after_s=retry_after_s(response.headers))
    if status >= 500:
        raise FetchFailure(HTTP_5XX, message, retry_after_s=retry_after_s(response.headers))
    if status < 400 and status != 200:
        raise FetchFailure(BAD_RESPONSE, message)


def _refusal(failure: FetchFailure) -> tuple[Reason, str]:
    if failure.reason == ROBOTS_DISALLOWED:
        return failure.reason, failure.message
    reason = failure.reason if failure.reason in _HOST_REASONS else ROBOTS_UNREACHABLE
    return reason, f"robots.txt: {failure.reason}: {failure.message}"
