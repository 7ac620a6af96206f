"""Reasons why a URL gave no image, with those that are retried and those that count against the host."""

from __future__ import annotations

from hifidata.core.reasons import Reason

# Before anything is sent.
BAD_URL = Reason(
    "bad_url", "Bad URL", "The URL cannot be requested: no host, credentials in it, or an odd port.", failed=True
)
BAD_SCHEME = Reason("bad_scheme", "Bad scheme", "The URL is neither http nor https.", failed=True)
BLOCKED_ADDRESS = Reason(
    "blocked_address",
    "Blocked address",
    "The URL leads to an address that is not public, such as a local one.",
    failed=True,
)
# Redirects.
BAD_REDIRECT = Reason("bad_redirect", "Bad redirect", "The site sent a redirect without a valid target.", failed=True)
TOO_MANY_REDIRECTS = Reason(
    "too_many_redirects", "Too many redirects", "The site redirected more often than the recipe allows.", failed=True
)
COOKIE_WALL = Reason(
    "cookie_wall",
    "Cookie wall",
    "The site sends its images only to clients that return its cookies, which the crawler does not do.",
    failed=True,
)
TLS_DOWNGRADE = Reason(
    "tls_downgrade", "TLS downgrade", "The site redirected from https to plain http, which is refused.", failed=True
)
# The site's rules.
ROBOTS_DISALLOWED = Reason("robots_disallowed", "robots.txt", "The site's robots.txt disallows this image.")
ROBOTS_UNREACHABLE = Reason(
    "robots_unreachable",
    "No robots.txt",
    "The site's robots.txt could not be read, which counts as disallow-all.",
    failed=True,
)
CRAWL_DELAY_TOO_LONG = Reason(
    "crawl_delay_too_long", "Crawl delay", "The site asks for a longer crawl delay than the recipe allows."
)
OPTED_OUT = Reason("opted_out", "Opted out", "The site's headers reserve its images from data mining.")
# The host.
UNKNOWN_HOST = Reason("unknown_host", "Unknown host", "The host's name does not exist.", failed=True)
DNS_ERROR = Reason("dns_error", "Name lookup failed", "The host's name could not be looked up.", failed=True)
CONNECT_ERROR = Reason(
    "connect_error", "No connection", "The connection failed, or was lost before a response.", failed=True
)
TLS_ERROR = Reason("tls_error", "TLS error", "The site's certificate is not valid.", failed=True)
TIMEOUT = Reason("timeout", "Timeout", "The site took too long.", failed=True)
HOST_STOPPED = Reason(
    "host_stopped",
    "Host stopped",
    "The host failed too often in a row, so no more requests were sent to it.",
    failed=True,
)
# The response and its body.
HTTP_4XX = Reason("http_4xx", "HTTP 4xx", "The site refuses the image or no longer has it.", failed=True)
REFERER_WALL = Reason(
    "referer_wall", "Referer wall", "The site sends the image only to visitors of its own pages.", failed=True
)
HTTP_5XX = Reason("http_5xx", "HTTP 5xx", "The site answered with a server error.", failed=True)
RATE_LIMITED = Reason("rate_limited", "Rate limited", "The site asked for fewer requests.", failed=True)
BAD_RESPONSE = Reason(
    "bad_response", "Bad response", "The response was not valid HTTP, or not the requested content.", failed=True
)
TOO_LARGE = Reason(
    "too_large", "Download too large", "The download is larger than the recipe allows and was stopped.", failed=True
)
INCOMPLETE_BODY = Reason(
    "incomplete_body", "Incomplete", "The download ended before the body was complete.", failed=True
)
PLACEHOLDER = Reason("placeholder", "Placeholder", "The site sent a substitute for a removed image.")
HASH_MISMATCH = Reason("hash_mismatch", "Other bytes", "The bytes do not have the sha256 of the table.", failed=True)
FETCHER_ERROR = Reason(
    "fetcher_error",
    "Fetcher error",
    "The fetcher met an error that it does not know; the message names it.",
    failed=True,
)

FETCH_REASONS = (
    BAD_URL, BAD_SCHEME, BLOCKED_ADDRESS, BAD_REDIRECT, TOO_MANY_REDIRECTS, COOKIE_WALL, TLS_DOWNGRADE, ROBOTS_DISALLOWED,
    ROBOTS_UNREACHABLE, CRAWL_DELAY_TOO_LONG, OPTED_OUT, UNKNOWN_HOST, DNS_ERROR, CONNECT_ERROR, TLS_ERROR, TIMEOUT,
    HOST_STOPPED, HTTP_4XX, REFERER_WALL, HTTP_5XX, RATE_LIMITED, BAD_RESPONSE, TOO_LARGE, INCOMPLETE_BODY, PLACEHOLDER, HASH_MISMATCH,
    FETCHER_ERROR,
)  # fmt: skip

TRANSIENT_REASONS = frozenset({DNS_ERROR, CONNECT_ERROR, TIMEOUT, HTTP_5XX, RATE_LIMITED, INCOMPLETE_BODY})
"""Retried within seconds."""

RETRYABLE_REASONS = TRANSIENT_REASONS | {HOST_STOPPED, ROBOTS_UNREACHABLE, FETCHER_ERROR}
"""Retried in a later run."""

HOST_FAULT_REASONS = TRANSIENT_REASONS | {UNKNOWN_HOST, TLS_ERROR}
"""Count towards stopping the host; any other outcome shows that the host works."""
