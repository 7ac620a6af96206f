"""Why a URL gave no picture: the closed vocabulary of the fetcher."""

from __future__ import annotations

from enum import Enum


class FetchReason(str, Enum):
    """One member per cause that a user would treat differently."""

    # refused before anything was sent
    BAD_URL = "bad_url"  # no host, credentials, odd port, control characters, too long
    BAD_SCHEME = "bad_scheme"
    BLOCKED_ADDRESS = "blocked_address"
    # redirects
    BAD_REDIRECT = "bad_redirect"  # without a target, or with one that is no URL
    TOO_MANY_REDIRECTS = "too_many_redirects"
    TLS_DOWNGRADE = "tls_downgrade"
    # the site's wishes
    ROBOTS_DISALLOWED = "robots_disallowed"
    ROBOTS_UNREACHABLE = "robots_unreachable"
    CRAWL_DELAY_TOO_LONG = "crawl_delay_too_long"
    OPTED_OUT = "opted_out"
    # the host
    UNKNOWN_HOST = "unknown_host"  # the name does not exist
    DNS_ERROR = "dns_error"  # the name could not be looked up now
    CONNECT_ERROR = "connect_error"  # no connection, or lost before the headers came
    TLS_ERROR = "tls_error"
    TIMEOUT = "timeout"
    HOST_STOPPED = "host_stopped"
    # the answer
    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    RATE_LIMITED = "rate_limited"
    BAD_RESPONSE = "bad_response"  # no HTTP, an over-long header, a status or an encoding that was not asked for
    # the body
    TOO_LARGE = "too_large"
    INCOMPLETE_BODY = "incomplete_body"
    EMPTY_FILE = "empty_file"
    NOT_IMAGE = "not_image"
    PLACEHOLDER = "placeholder"
    HASH_MISMATCH = "hash_mismatch"

    def __str__(self) -> str:
        return str(self.value)


TRANSIENT_REASONS = frozenset(
    {
        FetchReason.DNS_ERROR,
        FetchReason.CONNECT_ERROR,
        FetchReason.TIMEOUT,
        FetchReason.HTTP_5XX,
        FetchReason.RATE_LIMITED,
        FetchReason.INCOMPLETE_BODY,
    }
)
"""Worth another try within seconds."""

RETRYABLE_REASONS = TRANSIENT_REASONS | {FetchReason.HOST_STOPPED, FetchReason.ROBOTS_UNREACHABLE}
"""Worth another try in a later run."""

HOST_FAULT_REASONS = TRANSIENT_REASONS | {FetchReason.UNKNOWN_HOST, FetchReason.TLS_ERROR}
"""Count towards stopping the host; any other outcome means that the host is alive."""
