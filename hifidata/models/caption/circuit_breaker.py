"""Stop a run whose caption server keeps failing."""

from __future__ import annotations

import time

from hifidata.core.errors import ServiceError
from hifidata.models.config import CaptionServerConfig


class CircuitBreaker:
    """Count failures in a row; a context manager around every batch of requests.

    It opens after ``max_errors`` failed portraits in a row. It also opens once two or more in a row took ``total_timeout_s``:
    a silent server must not cost that time once per portrait. Time outside the block does not count.
    """

    def __init__(self, server: CaptionServerConfig) -> None:
        self._server = server
        self._failures_in_row = 0
        self._spent_s = 0.0
        self._since_s = 0.0

    def __enter__(self) -> None:
        self._since_s = time.monotonic() - self._spent_s

    def __exit__(self, *_: object) -> None:
        self._spent_s = time.monotonic() - self._since_s if self._failures_in_row else 0.0

    def record_success(self) -> None:
        """Reset the count."""
        self._failures_in_row, self._since_s = 0, time.monotonic()

    def record_failure(self, message: str) -> None:
        """Count a failed portrait. Raises ServiceError with the message if the circuit opens."""
        self._failures_in_row += 1
        spent_s = time.monotonic() - self._since_s
        is_silent = self._failures_in_row > 1 and spent_s >= self._server.total_timeout_s
        if self._failures_in_row >= self._server.max_errors or is_silent:
            raise ServiceError(
                f"caption.server {self._server.base_url}: failed on {self._failures_in_row} portraits in a row, last because "
                f"{message}; fix the server, then run the same command to resume"
            )
