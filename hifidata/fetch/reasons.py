"""Which of the manifest's reasons are worth another try, and which tell something about the host."""

from __future__ import annotations

from hifidata.core.schema import Reason

TRANSIENT_REASONS = frozenset(
    {
        Reason.DNS_ERROR,
        Reason.CONNECT_ERROR,
        Reason.TIMEOUT,
        Reason.HTTP_5XX,
        Reason.RATE_LIMITED,
        Reason.INCOMPLETE_BODY,
    }
)
"""Worth another try within seconds."""

RETRYABLE_REASONS = TRANSIENT_REASONS | {Reason.HOST_STOPPED, Reason.ROBOTS_UNREACHABLE}
"""Worth another try in a later run."""

HOST_FAULT_REASONS = TRANSIENT_REASONS | {Reason.UNKNOWN_HOST, Reason.TLS_ERROR}
"""Count towards stopping the host; any other outcome means that the host is alive."""
