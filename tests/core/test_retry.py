"""Waits grow as promised, stay within their limits, and follow the server's Retry-After."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from hifidata.core.retry import backoff_s, full_jitter_s, retry_after_s, spread_s


def test_thousands_of_failures_overflow_nothing() -> None:
    assert backoff_s(0.5, 5000, 60.0) == 60.0
    assert math.isfinite(backoff_s(1.0, 5000))


def test_backoff_doubles_up_to_its_limit() -> None:
    assert [backoff_s(0.5, n_failures) for n_failures in range(1, 5)] == [0.5, 1, 2, 4]
    assert [backoff_s(0.5, n_failures, 3) for n_failures in range(1, 5)] == [0.5, 1, 2, 3]


def test_jitter_fills_the_whole_wait_and_spread_never_shortens_one() -> None:
    jittered = [full_jitter_s(2) for _ in range(1000)]
    assert 0 <= min(jittered) < 0.2
    assert 1.8 < max(jittered) <= 2
    spread = [spread_s(2) for _ in range(1000)]
    assert 2 <= min(spread) < max(spread) <= 2.2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("120", 120), (" 7 ", 7), ("9" * 50, 999_999_999), ("-5", None), ("1.5", None), ("soon", None), ("", None), ("٣", None)],
)  # fmt: skip
def test_retry_after_may_be_seconds(text: str, seconds: float | None) -> None:
    assert retry_after_s({"Retry-After": text}) == seconds


@pytest.mark.parametrize(
    "text", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2020 00:00:00 +9999999999999999999999"]
)
def test_retry_after_with_an_impossible_date_is_none(text: str) -> None:
    assert retry_after_s({"Retry-After": text}) is None


def test_retry_after_may_be_a_date() -> None:
    now = datetime.now(timezone.utc)
    later = retry_after_s({"Retry-After": format_datetime(now + timedelta(seconds=60), usegmt=True)})
    assert later is not None
    assert 55 < later <= 60
    assert retry_after_s({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after_s({"Retry-After": "Wed, 21 Oct 2015 07:28:00"}) == 0
    assert retry_after_s({}) is None
