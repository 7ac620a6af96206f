"""Request and result of a fetch."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from hifidata.core.errors import HifiError
from hifidata.core.reasons import Reason
from hifidata.fetch.reasons import FETCHER_ERROR, TRANSIENT_REASONS

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FetchRequest:
    """One URL to fetch.

    Attributes:
        url: as in the table or the search result.
        expected_sha256: hex; other bytes fail as ``hash_mismatch``.
        etag: of the local copy; the server may then answer that the copy is current.
        last_modified: likewise, used if there is no ETag.
        landing_page: URL of the web page that shows the image.
    """

    url: str
    expected_sha256: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    landing_page: str | None = None


@dataclass(frozen=True)
class FetchResult:
    """The outcome of one URL; exactly one per request.

    Attributes:
        url: as requested.
        final_url: the last URL that answered, or None.
        ok: the bytes are here, or the server confirmed the local copy.
        reason: the cause of a failure.
        message: one line for the manifest about a failure.
        http_status: of the last response.
        attempts: tries that sent at least one request; 0 if the URL was refused before.
        content: the bytes of the image, decoded from any transfer or content encoding.
        content_sha256: hex; also set for refused bytes (``not_image, placeholder, hash_mismatch``).
        n_bytes: size of those bytes.
        etag: for the next conditional request.
        last_modified: likewise.
        not_modified: the server answered 304; ``content`` is None although ok.
        retryable: a later run may succeed.
        fetched_at: UTC, ISO 8601, when the fetch ended.
        queued_s: waiting for robots.txt, for the throttle and between tries.
        connect_s: name lookup, connecting and TLS of the last request; 0 for a reused connection.
        response_s: from the start of the last request to its headers.
        total_s: from the call to the result.
    """

    url: str
    final_url: str | None
    ok: bool
    reason: Reason | None
    message: str | None
    http_status: int | None
    attempts: int
    content: bytes | None = field(repr=False)
    content_sha256: str | None
    n_bytes: int | None
    etag: str | None
    last_modified: str | None
    not_modified: bool
    retryable: bool
    fetched_at: str
    queued_s: float
    connect_s: float
    response_s: float
    total_s: float


class FetchFailure(HifiError):
    """A URL cannot be fetched. ``Fetcher.fetch`` turns this exception into a result.

    Args:
        reason: the cause.
        message: one line for the manifest.
        retry_after_s: the wait that the server asks for.
        transient: retry now; by default the reason decides.
    """

    def __init__(
        self, reason: Reason, message: str, *, retry_after_s: float | None = None, transient: bool | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s
        self.transient = reason in TRANSIENT_REASONS if transient is None else transient


def unexpected_failure(error: Exception) -> FetchFailure:
    """Return the failure for an error that no part of the fetcher expects: it costs one URL and not the crawl."""
    _log.debug("unexpected error in the fetcher", exc_info=error)
    text = ascii_line(str(error))
    return FetchFailure(
        FETCHER_ERROR, f"unexpected {type(error).__name__}{f': {text}' if text else ''}; please report it"
    )


def ascii_line(text: str) -> str:
    """Return a text as a short line of ASCII; servers control parts of error messages."""
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode()[:200]


@dataclass
class FetchTrace:
    """Times, counters and results of one URL, filled in during the fetch.

    Attributes:
        network_left_s: the rest of ``FetcherConfig.total_timeout_s``.
        try_number: the current try, from 1.
    """

    network_left_s: float
    try_number: int = 0
    attempts: int = 0
    queued_s: float = 0.0
    connect_s: float = 0.0
    response_s: float = 0.0
    http_status: int | None = None
    final_url: str | None = None
    content_sha256: str | None = None
    n_bytes: int | None = None
