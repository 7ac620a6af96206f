"""How long to wait between two tries of a request: exponential backoff, jitter, Retry-After.

The loops stay with the callers: their counters, deadlines and rate limits differ, and some of them are asynchronous.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

_MAX_DOUBLINGS = 64
"""Many more would exceed the range of a float."""


def backoff_s(first_s: float, n_failures: int, max_s: float = math.inf) -> float:
    """Return the wait in seconds after ``n_failures`` failures in a row: ``first_s`` doubled after each, at most ``max_s``."""
    return min(math.ldexp(first_s, min(n_failures - 1, _MAX_DOUBLINGS)), max_s)


def full_jitter_s(wait_s: float) -> float:
    """Return a random wait between 0 and ``wait_s``: clients that failed together do not return together."""
    return random.uniform(0, wait_s)


def spread_s(wait_s: float) -> float:
    """Return a random wait from ``wait_s`` to 10 % more: not before the time the server gave, and not all at once."""
    return wait_s * random.uniform(1.0, 1.1)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After header asks for, at least 0; None if it is absent or invalid.

    Args:
        headers: of a response, with case-insensitive names. The value is a number of seconds or an HTTP date.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # not a date, or an impossible year or time zone
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())
