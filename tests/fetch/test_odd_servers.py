"""Servers that are odd but clear: what curl reads is read, and no odd answer reaches another URL."""

from __future__ import annotations

import re
import zlib

import pytest

from hifidata.fetch.response_head import normalise_head
from hifidata.fetch.result import FetchRequest
from tests.fetch.conftest import fetch_all, fetch_one, quick
from tests.servers.hostile import HostileServer
from tests.servers.misdeeds import answer, picture

BODY = picture()
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"%x;name=value\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"


def response(*headers: str, status: str = "HTTP/1.1 200 OK", body: bytes = BODY) -> bytes:
    return "\r\n".join([status, *headers, "", ""]).encode("latin-1") + body


ODD = {
    "length twice": response(LENGTH, LENGTH),
    "length list": response(f"{LENGTH}, {len(BODY)}"),
    "length with a sign": response(f"Content-Length: +{len(BODY)}"),
    "chunked with a length": response(LENGTH, CHUNKED, body=CHUNKS),
    "chunked with a wrong length": response("Content-Length: 7", CHUNKED, body=CHUNKS),
    "blank in a name": response("X Powered By: PHP", LENGTH),
    "blank after a name": response("X-Name : x", f"Content-Length : {len(BODY)}"),
    "no colon": response("garbage", LENGTH),
    "empty name": response(": x", LENGTH),
    "brackets in a name": response("X[0]: 1", "X-é: 1", LENGTH),
    "dropped and folded": response("bad name: a", " folded", LENGTH),
    "NUL in a value": response("X-N: a\0b", LENGTH),
    "NUL in a folded value": response("X-N: a", " b\0", LENGTH),
    "carriage return in a folded value": response("X-N: a", " b\rContent-Length: 1", LENGTH),
    "lower case": response(LENGTH, status="http/1.1 200 OK"),
    "ICY": response(LENGTH, status="ICY 200 OK"),
}  # fmt: skip
"""Answers with an odd head: the connection is closed after them."""
UNUSUAL = {
    "150 headers": response(*(f"Set-Cookie: c{number}=1" for number in range(150)), LENGTH),
    "2,000 headers": response(*(f"X-{number}: 1" for number in range(2000)), LENGTH),
    "long header": response("Set-Cookie: a=" + "x" * 60_000, LENGTH),
    "folded": response("X-Long: a", " b", LENGTH),
    "line feeds only": response(LENGTH, body=b"").replace(b"\r\n", b"\n") + BODY,
    "blank lines before": b"\r\n\r\n" + response(LENGTH),
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(LENGTH),
    "blanks in the status line": response(LENGTH, status="HTTP/1.1  200  OK"),
    "no reason": response(LENGTH, status="HTTP/1.1 200"),
    "203": response(LENGTH, status="HTTP/1.1 203 Changed"),
    "226": response(LENGTH, status="HTTP/1.1 226 IM Used"),
    "206 of all bytes": response(
        LENGTH, f"Content-Range: bytes 0-{len(BODY) - 1}/{len(BODY)}", status="HTTP/1.1 206 x"
    ),
    "raw deflate": answer(zlib.compress(BODY)[2:-4], "200 OK", "Content-Encoding: deflate"),
    "deflate": answer(zlib.compress(BODY), "200 OK", "Content-Encoding: deflate"),
}
UNCLEAR = {
    "two lengths": response(LENGTH, "Content-Length: 5"),
    "length list of two": response(f"{LENGTH}, 5"),
    "no number": response("Content-Length: 0x10"),
    "negative length": response("Content-Length: -1"),
    "gzip, chunked and a length": response(LENGTH, "Transfer-Encoding: gzip, chunked"),
    "chunked twice and a length": response(LENGTH, CHUNKED, CHUNKED, body=CHUNKS),
    "other coding and a length": response(LENGTH, "Transfer-Encoding: x"),
    "no HTTP": response(LENGTH, status="FTP/1.1 200 OK"),
    "status of four digits": response(LENGTH, status="HTTP/1.1 2000 OK"),
    "head without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
}
"""Answers whose meaning is not clear."""


def test_odd_answers_are_read_and_their_connections_closed(server: HostileServer) -> None:
    server.raw = {f"/{number}": raw for number, raw in enumerate([*ODD.values(), *UNUSUAL.values()])}
    results = fetch_all(quick(connections_per_host=1), [server.url(path) for path in server.raw])
    failed = {name: r.message for name, r in zip([*ODD, *UNUSUAL], results, strict=True) if r.content != BODY}
    assert failed == {}
    assert server.n_connections == len(ODD) + 1, "the others share a connection"


@pytest.mark.parametrize("name", UNCLEAR)
def test_unclear_answers_are_asked_for_once_more_and_then_final(server: HostileServer, name: str) -> None:
    server.raw = {"/odd": UNCLEAR[name]}
    result = fetch_one(quick(tries=5), server.url("/odd"))
    assert (result.reason, result.attempts, server.n_connections) == ("bad_response", 2, 2), result.message


def test_an_unclear_answer_costs_one_more_request(server: HostileServer) -> None:
    server.raw = {"/odd": [UNCLEAR["no HTTP"], response(LENGTH)]}
    assert fetch_one(quick(), server.url("/odd")).content == BODY


@pytest.mark.parametrize("name", ODD)
def test_bytes_after_an_odd_answer_do_not_answer_the_next_request(server: HostileServer, name: str) -> None:
    poison = answer(b"poison")
    server.raw = {"/odd": ODD[name] + poison + poison}
    urls = [server.url("/odd"), *(server.url(f"/picture?v={number}") for number in range(3))]
    results = fetch_all(quick(connections_per_host=1), urls)
    assert {result.content for result in results[1:]} == {BODY}
    assert results[0].content in (BODY, None)


@pytest.mark.parametrize("name", [*ODD, *UNUSUAL])
def test_a_normalised_head_is_in_normal_form(name: str) -> None:
    head = re.split(rb"(?<=\n)\r?\n", (ODD | UNUSUAL)[name].lstrip())[0]
    plain, is_odd = normalise_head(head)
    assert is_odd == (name in ODD)
    assert normalise_head(plain) == (plain, False)


@pytest.mark.parametrize("cookie", [True, False])
def test_a_cookie_wall_is_named(server: HostileServer, cookie: bool) -> None:
    cookies = ("Set-Cookie: s=1",) if cookie else ()
    server.raw = {
        "/a": answer(b"", "302 Found", "Location: /b", *cookies),
        "/b": answer(b"", "302 Found", "Location: /a"),
    }
    assert fetch_one(quick(), server.url("/a")).reason == ("cookie_wall" if cookie else "too_many_redirects")


def test_a_referer_wall_is_named_and_the_landing_page_opens_it(server: HostileServer) -> None:
    server.raw = {"/wall": answer(b"<p>Hotlinking is not allowed", "403 Forbidden")}
    page = server.url("/page?x=%2c#part")
    request = FetchRequest(server.url("/wall"), landing_page=page)
    result = fetch_one(quick(), request)
    assert (result.reason, result.http_status) == ("referer_wall", 403)
    assert "fetch.referer" in (result.message or "")
    fetch_one(quick(referer="landing_page"), request)
    assert [seen.headers.get("referer") for seen in server.seen] == [None, page.removesuffix("#part")]


@pytest.mark.parametrize("headers", [("Content-Encoding: br",), ("Content-Encoding: gzip",)])
def test_an_unreadable_page_of_a_refusal_is_a_refusal(server: HostileServer, headers: tuple[str, ...]) -> None:
    server.raw = {"/wall": answer(b"no stream of this coding", "403 Forbidden", *headers)}
    assert fetch_one(quick(), server.url("/wall")).reason == "http_4xx"


@pytest.mark.parametrize(
    "page", [None, "", "no url", "https://safe.test/page", "http://user:secret@a.test/", "http://a.test\r\nX: y/"]
)
def test_a_page_that_must_not_be_named_is_not_sent(server: HostileServer, page: str | None) -> None:
    result = fetch_one(quick(referer="landing_page"), FetchRequest(server.url("/picture"), landing_page=page))
    assert result.ok
    assert "referer" not in server.seen[0].headers
