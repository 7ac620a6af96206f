"""Opt-outs as servers really write them."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.headers import Headers, opt_out

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
