"""Opt-outs and times of return as servers really write them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.headers import Headers, opt_out, retry_after_s

DIRECTIVES = FetcherConfig(contact="me@example.org").opt_out_directives


def headers(*pairs: tuple[str, str]) -> Headers:
    return CIMultiDictProxy(CIMultiDict(pairs))


@pytest.mark.parametrize(
    ("values", "directive"),
    [
        (["noai"], "noai"),
        (["NoImageAI"], "noimageai"),
        (["nofollow, noimageindex"], "noimageindex"),
        (["none"], "none"),
        (["nofollow", "noindex"], "noindex"),
        (["googlebot: noindex"], None),
        (["googlebot: nofollow, noindex"], None),
        (["hifidata: noindex"], "noindex"),
        (["HIFIDATA: nofollow, noindex"], "noindex"),
        (["*: noai"], "noai"),
        (["googlebot: nofollow, hifidata: noai"], "noai"),
        (["googlebot: noindex", "noai"], "noai"),
        (["max-image-preview: large, noai"], "noai"),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST, noai"], "noai"),
        (["all"], None),
        (["noarchive, nosnippet, max-snippet: 0"], None),
        (["", ",,", ":"], None),
    ],
)
def test_x_robots_tag_counts_where_it_is_meant_for_us(values: list[str], directive: str | None) -> None:
    found = opt_out(headers(*(("X-Robots-Tag", value) for value in values)), "hifidata", DIRECTIVES)
    assert found == (directive and f"x-robots-tag: {directive}")


def test_text_and_data_mining_reservation_counts() -> None:
    assert opt_out(headers(("TDM-Reservation", " 1 ")), "hifidata", DIRECTIVES) == "tdm-reservation: 1"
    assert opt_out(headers(("tdm-reservation", "0")), "hifidata", DIRECTIVES) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("120", 120), (" 7 ", 7), ("9" * 50, 999_999_999), ("-5", None), ("1.5", None), ("soon", None), ("", None), ("٣", None)],
)  # fmt: skip
def test_retry_after_in_seconds(text: str, seconds: float | None) -> None:
    assert retry_after_s(headers(("Retry-After", text))) == seconds


@pytest.mark.parametrize(
    "text", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2020 00:00:00 +9999999999999999999999"]
)
def test_retry_after_in_no_year_of_ours_is_none(text: str) -> None:
    assert retry_after_s(headers(("Retry-After", text))) is None


def test_retry_after_as_a_date() -> None:
    now = datetime.now(timezone.utc)
    later = retry_after_s(headers(("Retry-After", format_datetime(now + timedelta(seconds=60), usegmt=True))))
    assert later is not None
    assert 55 < later <= 60
    assert retry_after_s(headers(("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"))) == 0
    assert retry_after_s(headers(("Retry-After", "Wed, 21 Oct 2015 07:28:00"))) == 0
    assert retry_after_s(headers()) is None
