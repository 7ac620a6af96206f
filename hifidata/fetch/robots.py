"""Apply robots.txt per RFC 9309: one request per origin and day. An unreachable robots.txt counts as disallow-all."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

import aiohttp
from protego import Protego
from yarl import URL

from hifidata.core.reasons import Reason
from hifidata.core.retry import retry_after_s
from hifidata.fetch.address_guard import ParsedUrl
from hifidata.fetch.body import read_start
from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.headers import FULL_STATUSES
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
from hifidata.fetch.result import FetchFailure, FetchTrace, unexpected_failure

MAX_ROBOTS_BYTES = 500 * 1024  # RFC 9309 2.5
_CACHE_S = 24 * 3600.0  # RFC 9309 2.4
_FAILURE_CACHE_S = 300.0  # as Nutch waits before it retries a failing host
_MAX_CACHED_CHARS = 8 * 1024 * 1024  # the parser needs up to 40 times as many bytes
_CHARS_PER_ENTRY = 1024  # memory of an origin besides its text
_INLINE_BYTES = 16 * 1024  # longer files are parsed off the event loop
MAX_WILDCARD_RULES = 5000
"""The parser tries them one after the other. So many take up to 80 ms for a URL of 8 KB."""
_QUICK_WILDCARD_RULES = 250
_QUICK_RULES = 5000
_REMEMBERED_URLS = 64  # a URL is checked again before each try
_AGENT_FIELD = "User-agent: "
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
        allows: whether a URL may be fetched; None allows everything.
        delay_s: shortest time between two requests.
        refusal: reason and message for every URL of the origin.
        is_slow: ``allows`` takes milliseconds and must not run in the event loop.
        n_chars: approximate memory use.
    """

    allows: Callable[[str], bool] | None = None
    delay_s: float = 0.0
    refusal: tuple[Reason, str] | None = None
    is_slow: bool = False
    n_chars: int = _CHARS_PER_ENTRY

    @property
    def is_final(self) -> bool:
        """Whether these rules come from the site and not from a failed request."""
        return self.refusal is None or self.refusal[0] is ROBOTS_DISALLOWED

    async def check(self, url: ParsedUrl, max_crawl_delay_s: float) -> float:
        """Return the crawl delay in seconds; 0 if there is none.

        Raises:
            FetchFailure: the URL must not be fetched.
        """
        if self.refusal is not None:
            raise FetchFailure(*self.refusal, transient=False)
        if self.allows is None:
            return 0.0
        text = str(url.url)
        if not (await asyncio.to_thread(self.allows, text) if self.is_slow else self.allows(text)):
            raise FetchFailure(ROBOTS_DISALLOWED, f"{url.host}: its robots.txt disallows this URL")
        if self.delay_s > max_crawl_delay_s:
            message = f"{url.host} asks for {self.delay_s:g} s between requests, the limit is {max_crawl_delay_s:g} s"
            raise FetchFailure(CRAWL_DELAY_TOO_LONG, message)
        return self.delay_s


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
                yield f"{_AGENT_FIELD}{found[1]}"  # without the version after the name, which the parser would compare
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
        return await rules.check(url, self._settings.max_crawl_delay_s)

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
            if response.status not in FULL_STATUSES:
                return None
            body, truncated = await read_start(response, MAX_ROBOTS_BYTES)
            return body

        try:
            response = await self._chain.send(f"{origin}/robots.txt", RequestSpec({}, _allow_all, read), trace)
            rules = await self._rules_of(response.body, truncated)
        except FetchFailure as failure:
            rules = RobotsRules(refusal=_refusal(failure))
        except Exception as error:  # noqa: BLE001  it must not end the crawl, nor repeat this request for each URL
            rules = RobotsRules(refusal=_refusal(unexpected_failure(error)))
        self._store(origin, rules)
        return rules

    async def _rules_of(self, body: bytes | None, truncated: bool) -> RobotsRules:
        if body is None:
            return RobotsRules()
        if truncated:  # a truncated line may allow more than the complete one
            body = body[: body.rfind(b"\n") + 1]
        parse = partial(parse_robots, body, self._settings.user_agent_name)
        return parse() if len(body) <= _INLINE_BYTES else await asyncio.to_thread(parse)

    def _store(self, origin: str, rules: RobotsRules) -> None:
        expires_s = time.monotonic() + (_CACHE_S if rules.is_final else _FAILURE_CACHE_S)
        _, before = self._entries.pop(origin, (0.0, None))
        self._n_chars += rules.n_chars - (before.n_chars if before else 0)
        self._entries[origin] = expires_s, rules
        while self._n_chars > _MAX_CACHED_CHARS and len(self._entries) > 1:
            _, (_, oldest) = self._entries.popitem(last=False)
            self._n_chars -= oldest.n_chars


def parse_robots(body: bytes, agent_name: str) -> RobotsRules:
    """Parse a robots.txt. A file with too many wildcards is refused as a whole: to ignore a rule could allow too much.

    Args:
        body: of the response; at most ``MAX_ROBOTS_BYTES``.
        agent_name: our product token.
    """
    lines = list(lines_for(body.decode("utf-8", "replace"), agent_name))
    n_wildcards = sum(("*" in line or "$" in line) and not line.startswith(_AGENT_FIELD) for line in lines)
    if n_wildcards > MAX_WILDCARD_RULES:
        message = f"robots.txt has {n_wildcards} rules with wildcards; at most {MAX_WILDCARD_RULES} are checked"
        return RobotsRules(refusal=(ROBOTS_DISALLOWED, message))
    text = "\n".join(lines)
    parsed = Protego.parse(text)

    def allows(url: str) -> bool:
        """Check both spellings: a rule also holds for the path without dot segments."""
        return all(parsed.can_fetch(spelling, agent_name) for spelling in {url, str(URL(url))})

    is_slow = n_wildcards > _QUICK_WILDCARD_RULES or len(lines) > _QUICK_RULES
    return RobotsRules(
        lru_cache(_REMEMBERED_URLS)(allows) if is_slow else allows,
        _delay_s(parsed, agent_name),
        is_slow=is_slow,
        n_chars=_CHARS_PER_ENTRY + len(text),
    )


def _delay_s(parsed: Protego, agent_name: str) -> float:
    delay_s = parsed.crawl_delay(agent_name) or 0.0
    rate = parsed.request_rate(agent_name)
    try:
        return max(delay_s, rate.seconds / rate.requests) if rate else delay_s
    except OverflowError:
        return math.inf


async def _allow_all(_: ParsedUrl) -> float:
    """Allow robots.txt itself, which needs no permission (RFC 9309 2.2.2)."""
    return 0.0


def _check_robots_status(response: aiohttp.ClientResponse, host: str) -> None:
    """Accept a whole file, and 4xx other than 429: then there are no rules (RFC 9309, section 2.3.1.3).

    401 and 403 are among them. Object stores answer 403 for a file that is not there.
    """
    status = response.status
    message = f"{host} answered {status} for robots.txt"
    if status == 429:
        raise FetchFailure(RATE_LIMITED, message, retry_after_s=retry_after_s(response.headers))
    if status >= 500:
        raise FetchFailure(HTTP_5XX, message, retry_after_s=retry_after_s(response.headers))
    if status < 400 and status not in FULL_STATUSES:
        raise FetchFailure(BAD_RESPONSE, message)


def _refusal(failure: FetchFailure) -> tuple[Reason, str]:
    reason = failure.reason if failure.reason in _HOST_REASONS else ROBOTS_UNREACHABLE
    return reason, f"robots.txt: {failure.reason}: {failure.message}"
