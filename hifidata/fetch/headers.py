"""Evaluate response headers before the body is read: opt-out, status, validators."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from multidict import CIMultiDictProxy

from hifidata.core.retry import retry_after_s
from hifidata.fetch.reasons import BAD_RESPONSE, HTTP_4XX, HTTP_5XX, RATE_LIMITED
from hifidata.fetch.result import FetchFailure

Headers = CIMultiDictProxy[str]

FULL_STATUSES = frozenset({200, 203, 226})
"""The body is the image: as sent, changed by a proxy, or rebuilt from a difference."""
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_ALL_BYTES = re.compile(r"bytes 0-(\d{1,18})/(\d{1,18})", re.ASCII)
_VALUED_DIRECTIVES = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})


def opt_out(headers: Headers, agent_name: str, directives: Collection[str]) -> str | None:
    """Return the header that opts an image out of datasets, or None.

    Args:
        headers: of the response.
        agent_name: our product token; directives for other agents are ignored.
        directives: the X-Robots-Tag directives that opt out, lower case.

    Source: X-Robots-Tag as search engines document it; TDM Reservation Protocol for ``tdm-reservation``.
    """
    for value in headers.getall("tdm-reservation", ()):
        if value.strip() == "1":
            return "tdm-reservation: 1"
    for value in headers.getall("x-robots-tag", ()):
        for directive in _directives_for(value, agent_name.lower()):
            if directive in directives:
                return f"x-robots-tag: {directive}"
    return None


def _directives_for(value: str, agent_name: str) -> Iterator[str]:
    """Yield the directives for this agent. A scope, ``agent:``, holds until the next one in the same header line."""
    applies = True
    for part in value.lower().split(","):
        name, colon, rest = part.partition(":")
        if colon and name.strip() not in _VALUED_DIRECTIVES:
            applies = name.strip() in (agent_name, "*")
            part = rest
        if applies:
            yield part.strip()


def check_status(status: int, headers: Headers, host: str) -> None:
    """Accept a whole body, 304 and redirects.

    Raises:
        FetchFailure: ``rate_limited, http_4xx, http_5xx, bad_response``.
    """
    if has_whole_body(status, headers) or status == 304 or status in REDIRECT_STATUSES:
        return
    message = f"{host} answered {status}"
    if status == 429:
        raise FetchFailure(RATE_LIMITED, message, retry_after_s=retry_after_s(headers))
    if status >= 500:
        raise FetchFailure(HTTP_5XX, message, retry_after_s=retry_after_s(headers))
    if status >= 400:
        raise FetchFailure(HTTP_4XX, message)
    raise FetchFailure(BAD_RESPONSE, f"{message}, expected 200")


def has_whole_body(status: int, headers: Headers) -> bool:
    """Return whether the response has the whole body; some servers answer 206 with all bytes."""
    sent = _ALL_BYTES.fullmatch(headers.get("content-range", "").strip())
    return status in FULL_STATUSES or (status == 206 and sent is not None and int(sent[1]) + 1 == int(sent[2]))


def validator(headers: Headers, name: str) -> str | None:
    """Return ETag or Last-Modified if it is safe to store and to send again, else None."""
    text = headers.get(name, "")
    return text if 0 < len(text) <= 512 and text.isascii() and text.isprintable() else None


def conditions(etag: str | None, last_modified: str | None) -> Iterable[tuple[str, str]]:
    """Yield the request header that asks for the body only if it changed; the ETag is stronger than the date."""
    for name, text in (("If-None-Match", etag), ("If-Modified-Since", last_modified)):
        if text and text.isascii() and text.isprintable():
            yield name, text
            return
