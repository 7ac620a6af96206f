"""HTTP for search providers: rate limit, retries, size limits and credentials. The provider's file has only parameters.

``requests`` is enough: a search is one small JSON response, and requests are sent one at a time.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import quote, quote_plus

import requests
import urllib3

from hifidata.core.deadline import call_in_time
from hifidata.core.retry import backoff_s, full_jitter_s, retry_after_s, spread_s
from hifidata.fetch.config import FetcherConfig
from hifidata.sources.search.base import JsonObject, SearchFailure
from hifidata.sources.search.fields import mapping, text

MAX_RESPONSE_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Endpoint:
    """Address and credentials of a provider's API.

    Attributes:
        name: of the provider, for messages.
        url: of the API.
        pause_s: minimum time between two requests, over all threads.
        headers: with credentials.
        params: of the URL's query, with credentials.
    """

    name: str
    url: str
    pause_s: float
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)


class SearchClient:
    """Send requests to one provider, one at a time. Thread-safe.

    A provider that refuses all requests, or fails ``max_host_errors`` times in a row, is stopped for ``host_stop_s``. A
    redirect is an error: it would send the key to another host. Proxies, .netrc and cookies are not used. Messages never
    contain keys. urllib3 logs whole URLs at DEBUG, so do not keep such logs.

    Args:
        endpoint: the provider.
        fetch: timeouts, tries, backoff and User-Agent are those of the crawl.
    """

    def __init__(self, endpoint: Endpoint, fetch: FetcherConfig) -> None:
        self._endpoint = endpoint
        self._fetch = fetch
        self._lock = threading.Lock()  # guards all attributes below
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update(
            {"User-Agent": fetch.user_agent, "Accept": "application/json", "Accept-Encoding": "gzip"}
        )
        self._next_request_s = self._stopped_until_s = float("-inf")
        self._errors_in_row = 0
        self._stop_message = ""

    def get(self, params: Mapping[str, str | int], check: Callable[[JsonObject], None] | None = None) -> JsonObject:
        """See ``base.Client.get``."""
        with self._lock:
            if time.monotonic() < self._stopped_until_s:
                raise SearchFailure(f"{self._endpoint.name} is stopped after an earlier failure: {self._stop_message}")
            try:
                response = self._send(params, check)
            except SearchFailure as failure:
                message = self._redacted(str(failure))
                self._record(failure, message)
                # From None: the cause may contain the URL, and the URL contains the key.
                raise SearchFailure(message, refused=failure.refused) from None
            self._errors_in_row = 0
            return response

    def _send(self, params: Mapping[str, str | int], check: Callable[[JsonObject], None] | None) -> JsonObject:
        """Send a request until it succeeds, fails permanently or no try is left."""
        attempt = 0
        while True:
            attempt += 1
            time.sleep(max(0.0, self._next_request_s - time.monotonic()))
            self._next_request_s = time.monotonic() + self._endpoint.pause_s
            try:
                return self._send_once(params, check)
            except SearchFailure as failure:
                wait_s = failure.retry_after_s
                if wait_s is None:
                    wait_s = full_jitter_s(backoff_s(self._fetch.backoff_s, attempt))
                self._next_request_s = max(self._next_request_s, time.monotonic() + spread_s(wait_s))
                if not failure.transient or wait_s > self._fetch.max_retry_after_s or attempt == self._fetch.tries:
                    raise

    def _record(self, failure: SearchFailure, message: str) -> None:
        self._errors_in_row += 1
        stop_s = 0.0
        if failure.refused or self._errors_in_row >= self._fetch.max_host_errors:
            stop_s = self._fetch.host_stop_s
            self._errors_in_row = 0
        if (failure.retry_after_s or 0.0) > self._fetch.max_retry_after_s:
            stop_s = max(stop_s, failure.retry_after_s or 0.0)
        if stop_s:
            self._stopped_until_s, self._stop_message = time.monotonic() + stop_s, message
            self._next_request_s = float("-inf")

    def _send_once(self, params: Mapping[str, str | int], check: Callable[[JsonObject], None] | None) -> JsonObject:
        name, fetch = self._endpoint.name, self._fetch
        deadline_s = time.monotonic() + fetch.total_timeout_s
        send = partial(
            self._session.get,
            self._endpoint.url,
            params={**params, **self._endpoint.params},
            headers=dict(self._endpoint.headers),
            timeout=(fetch.connect_timeout_s, fetch.total_timeout_s),  # the first byte of a search may take long
            stream=True,
            allow_redirects=False,
        )
        try:
            with call_in_time(send, fetch.connect_timeout_s + fetch.total_timeout_s) as response:
                body = self._read(response, deadline_s)
        except requests.exceptions.SSLError:
            raise SearchFailure(f"{name}: its TLS certificate was not accepted") from None
        except (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError):
            raise SearchFailure(f"{name}: no response within {fetch.total_timeout_s:g} s", transient=True) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise SearchFailure(f"{name}: connection failed ({type(error).__name__})", transient=True) from None
        wait_s = retry_after_s(response.headers)
        if response.status_code != 200:
            raise _status_failure(name, response.status_code, body, wait_s)
        try:
            content = _json_object(body)
            if content is None:
                raise SearchFailure(f"{name}: the response is not a JSON object", transient=True)
            if check is not None:
                check(content)
        except SearchFailure as failure:
            failure.retry_after_s = wait_s
            raise
        return content

    def _read(self, response: requests.Response, deadline_s: float) -> bytes:
        body = bytearray()
        while piece := response.raw.read1(2**16, decode_content=True):
            body += piece
            if len(body) > MAX_RESPONSE_BYTES:
                raise SearchFailure(f"{self._endpoint.name}: response over {MAX_RESPONSE_BYTES} bytes")
            if time.monotonic() > deadline_s:
                raise urllib3.exceptions.TimeoutError
        return bytes(body)

    def _redacted(self, message: str) -> str:
        for secret in [*self._endpoint.headers.values(), *self._endpoint.params.values()]:
            for form in (secret, secret.rpartition(" ")[2], quote(secret, safe=""), quote_plus(secret)):
                message = message.replace(form, "***")
        return message


def _status_failure(name: str, status: int, body: bytes, wait_s: float | None) -> SearchFailure:
    message = f"{name} answered {status}"
    error = _error_text(_json_object(body) or {})
    if error:
        message = f"{message}: {error}"
    if 300 <= status < 400:
        message += "; redirects are not followed"
    return SearchFailure(
        message,
        transient=status in (408, 429) or status >= 500,
        refused=status in (401, 403),
        retry_after_s=wait_s,
    )


def _error_text(content: JsonObject) -> str | None:
    """Return the provider's error message: ``error`` or ``detail``, a text or an object with a text."""
    error = content.get("error", content.get("detail"))
    details = mapping(error)
    return text(error) or text(details.get("message") or details.get("detail") or details.get("info"))


def _json_object(body: bytes) -> JsonObject | None:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
