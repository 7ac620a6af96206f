"""What goes into a fetch and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field

from hifidata.core.errors import HifiError
from hifidata.core.reasons import Reason
from hifidata.fetch.reasons import TRANSIENT_REASONS


@dataclass(frozen=True)
class FetchRequest:
    """One URL to fetch.

    Attributes:
        url: as the list gives it.
        expected_sha256: hex; other bytes end as ``hash_mismatch``.
        etag: of the copy that is already held; the server may then answer that it still holds.
        last_modified: likewise, used where there is no ETag.
    """

    url: str
    expected_sha256: str | None = None
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True)
class FetchResult:
    """How one URL ended; exactly one per request.

    Attributes:
        url: as requested.
        final_url: the last URL that answered; None where none did.
        ok: the bytes are here, or the server said that the copy already held is still good.
        reason: why not, where not ok.
        message: one line in words, where not ok.
        http_status: of the last answer.
        attempts: tries that sent at least one request; 0 where the URL was refused beforehand.
        content: the picture's bytes, decoded from any transfer or content encoding.
        content_sha256: hex; also there for bytes that were refused (``not_image, placeholder, hash_mismatch``).
        n_bytes: size of those bytes.
        etag: for a conditional request next time.
        last_modified: likewise.
        not_modified: the server answered 304; ``content`` is None although ok.
        retryable: a later run may have more luck.
        fetched_at: UTC, ISO 8601, when the fetch ended.
        queued_s: waiting for robots.txt, for the host's turn and between tries.
        connect_s: name lookup, connecting and TLS of the last request; 0 where a connection was reused.
        response_s: from the last request's start to its headers.
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
    """A URL cannot be fetched; never leaves the package, ``Fetcher.fetch`` turns it into a result.

    Args:
        reason: the cause.
        message: one line for the manifest.
        retry_after_s: how long the server wants to be left alone.
        transient: worth another try now; by default the reason tells.
    """

    def __init__(
        self, reason: Reason, message: str, *, retry_after_s: float | None = None, transient: bool | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s
        self.transient = reason in TRANSIENT_REASONS if transient is None else transient


@dataclass
class Journey:
    """What one URL has cost and met so far; filled in on its way.

    Attributes:
        network_left_s: what remains of ``FetcherConfig.total_timeout_s``.
        try_number: the try that is under way, from 1.
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
