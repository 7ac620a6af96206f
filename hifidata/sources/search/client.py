"""One provider's HTTP: turns, tries, limits and secrets, so that a provider's own file only knows its parameters.

``requests`` suffices here: a search is one small JSON answer, asked for one at a time.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import quote, quote_plus

import requests
import urllib3

from hifidata.core.retry import backoff_s, full_jitter_s, retry_after_s, spread_s
from hifidata.fetch.config import FetcherConfig
from hifidata.sources.search.base import Answer, SearchFailure
from hifidata.sources.search.fields import mapping, text

MAX_ANSWER_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Endpoint:
    """Where and as whom to ask.

    Attributes:
        name: the provider's, for messages.
        url: of the API.
        pause_s: least time between two requests, over all threads.
        headers: that carry credentials.
        params: of the URL's query that carry credentials.
    """

    name: str
    url: str
    pause_s: float
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)


class SearchClient:
    """Asks one provider; any thread may call it, requests go out one after another.

    A provider that refuses us, or fails ``max_host_errors`` times in a row, is left alone for ``host_stop_s``. A redirect
    is an error: it would carry the key elsewhere. Proxies, .netrc and cookies are not used. Keys never reach a message;
    urllib3 logs whole URLs at DEBUG, so don't keep such logs.

    Args:
        endpoint: the provider.
        fetch: timeouts, tries, back-off and the User-Agent are those of the crawl.
    """

    def __init__(self, endpoint: Endpoint, fetch: FetcherConfig) -> None:
        self._endpoint = endpoint
        self._fetch = fetch
        self._turn = threading.Lock()  # guards everything below
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update(
            {"User-Agent": fetch.user_agent, "Accept": "application/json", "Accept-Encoding": "gzip"}
        )
        self._next_s = self._stopped_until_s = float("-inf")
        self._errors_in_row = 0
        self._stopped_because = ""

    def get(self, params: Mapping[str, str | int], check: Callable[[Answer], None] | None = None) -> Answer:
        """See ``base.Client.get``."""
        with self._turn:
            if time.monotonic() < self._stopped_until_s:
                raise SearchFailure(
                    f"{self._endpoint.name} was not asked after an earlier failure: {self._stopped_because}"
                )
            try:
                answer = self._try(params, check)
            except SearchFailure as failure:
                message = self._without_secrets(str(failure))
                self._note(failure, message)
                # From None: what lies below may hold the URL, and the URL the key.
                raise SearchFailure(message, refused=failure.refused) from None
            self._errors_in_row = 0
            return answer

    def _try(self, params: Mapping[str, str | int], check: Callable[[Answer], None] | None) -> Answer:
        attempt = 0
        while True:
            attempt += 1
            time.sleep(max(0.0, self._next_s - time.monotonic()))
            self._next_s = time.monotonic() + self._endpoint.pause_s
            try:
                return self._ask(params, check)
            except SearchFailure as failure:
                wait_s = failure.retry_after_s
                if wait_s is None:
                    wait_s = full_jitter_s(backoff_s(self._fetch.backoff_s, attempt))
                self._next_s = max(self._next_s, time.monotonic() + spread_s(wait_s))
                if not failure.transient or wait_s > self._fetch.max_retry_after_s or attempt == self._fetch.tries:
                    raise

    def _note(self, failure: SearchFailure, message: str) -> None:
        self._errors_in_row += 1
        stop_s = 0.0
        if failure.refused or self._errors_in_row >= self._fetch.max_host_errors:
            stop_s = self._fetch.host_stop_s
            self._errors_in_row = 0
        if (failure.retry_after_s or 0.0) > self._fetch.max_retry_after_s:
            stop_s = max(stop_s, failure.retry_after_s or 0.0)
        if stop_s:
            self._stopped_until_s, self._stopped_because = time.monotonic() + stop_s, message
            self._next_s = float("-inf")

    def _ask(self, params: Mapping[str, str | int], check: Callable[[Answer], None] | None) -> Answer:
        name, fetch = self._endpoint.name, self._fetch
        deadline_s = time.monotonic() + fetch.total_timeout_s
        try:
            with self._session.get(
                self._endpoint.url,
                params={**params, **self._endpoint.params},
                headers=dict(self._endpoint.headers),
                timeout=(fetch.connect_timeout_s, fetch.total_timeout_s),  # a search thinks before its first byte
                stream=True,
                allow_redirects=False,
            ) as response:
                body = self._read(response, deadline_s)
        except requests.exceptions.SSLError:
            raise SearchFailure(f"{name}: its TLS certificate was not accepted") from None
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise SearchFailure(f"{name}: no answer within {fetch.total_timeout_s:g} s", transient=True) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise SearchFailure(f"{name}: connection failed ({type(error).__name__})", transient=True) from None
        pause_s = retry_after_s(response.headers)
        if response.status_code != 200:
            raise _refusal(name, response.status_code, body, pause_s)
        try:
            answer = _json_object(body)
            if answer is None:
                raise SearchFailure(f"{name} answered with something that is no JSON object", transient=True)
            if check is not None:
                check(answer)
        except SearchFailure as failure:
            failure.retry_after_s = pause_s
            raise
        return answer

    def _read(self, response: requests.Response, deadline_s: float) -> bytes:
        body = bytearray()
        while piece := response.raw.read1(2**16, decode_content=True):
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise SearchFailure(f"{self._endpoint.name}: answer over {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > deadline_s:
                raise urllib3.exceptions.TimeoutError
        return bytes(body)

    def _without_secrets(self, message: str) -> str:
        for secret in [*self._endpoint.headers.values(), *self._endpoint.params.values()]:
            for form in (secret, secret.rpartition(" ")[2], quote(secret, safe=""), quote_plus(secret)):
                message = message.replace(form, "***")
        return message


def _refusal(name: str, status: int, body: bytes, pause_s: float | None) -> SearchFailure:
    message = f"{name} answered {status}"
    complaint = _complaint(_json_object(body) or {})
    if complaint:
        message = f"{message}: {complaint}"
    if 300 <= status < 400:
        message += "; its redirects are not followed"
    return SearchFailure(
        message,
        transient=status in (408, 429) or status >= 500,
        refused=status in (401, 403),
        retry_after_s=pause_s,
    )


def _complaint(answer: Answer) -> str | None:
    """What went wrong in the provider's words: ``error`` or ``detail``, a text or an object that holds one."""
    error = answer.get("error", answer.get("detail"))
    inside = mapping(error)
    return text(error) or text(inside.get("message") or inside.get("detail") or inside.get("info"))


def _json_object(body: bytes) -> Answer | None:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None
