"""A URL reaches the server in the spelling of the list, or of the Location header."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from hifidata.fetch.address_guard import Guard
from tests.fetch.conftest import fetch_all, fetch_one, quick
from tests.servers.hostile import HostileServer

SIGNED = (
    "", "/unsafe/filters%3Ano_upscale%28%29/a", "/%7Euser", "/a%2Cb", "/a%40b", "/%c3%a9", "/a+b", "/a%2Bb", "/./a", "/x/../a",
    "/x/%2e%2E/a", "//double//a", "?c=AKIA%2F1%2Fus&s=ab%2Bc%3D", "?url=https%3A%2F%2Fexample.org%3Fx%3D1", "?s=a%2Bb/c+d%20e",
    "?a=1;b=2", "?empty=&flag", "?", "?x=%27quoted%27", "/a*b'c(d)!", "/100%25", "/a;v=1", "/%41%42", "??", "/a?b?c", "?size[]=1",
    "/a[1]", "/%5b1%5D", "/a%00b", "/a=b&c", "/a:b@c", "/...", "?next=/a/../b",
)  # fmt: skip
"""Spellings that a site may sign."""
ENCODED = {
    "/with space": "/with%20space", "/é": "/%C3%A9", "?q=李": "?q=%E6%9D%8E", '/"<>\\^`{|}': "/%22%3C%3E%5C%5E%60%7B%7C%7D",
    "/%": "/%25", "?x=100%": "?x=100%25", "/a#part": "/a",
}  # fmt: skip
"""Characters that RFC 3986 does not allow in a URI, and what is sent."""


@pytest.mark.parametrize("redirected", [False, True])
def test_every_spelling_is_sent_as_written(server: HostileServer, redirected: bool) -> None:
    spellings = {f"/picture{text}": f"/picture{ENCODED.get(text, text)}" for text in (*SIGNED, *ENCODED)}
    urls = [server.url(text) for text in spellings]
    if redirected:
        urls = [server.url(f"/redirect?to={quote(url, safe='')}") for url in urls]
    results = fetch_all(quick(), urls)
    assert [result.message for result in results if not result.ok] == []
    assert [result.final_url for result in results] == [server.url(sent) for sent in spellings.values()]
    assert sorted(seen.target for seen in server.seen if seen.path != "/redirect") == sorted(spellings.values())


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/x/../%7e?", "/x/../%7e?"),
        ("//b.test/%7e?x=%2f", "//b.test/%7e?x=%2f"),
        ("HTTP://B.test/%3a", "//b.test/%3a"),
        ("b%2c.jpg", "/dir/sub/b%2c.jpg"),
        ("./b;v=1?", "/dir/sub/b;v=1?"),
        ("../b/./c/../d//e", "/dir/b/d//e"),
        ("../../../..", "/"),
        ("?x=%2F../y", "/dir/sub/a%2C.jpg?x=%2F../y"),
        ("#part", "/dir/sub/a%2C.jpg?s=%2b"),
        ("/Jos\udce9.jpg", "/Jos%E9.jpg"),
    ],
)
def test_a_redirect_keeps_the_spelling_of_its_target(location: str, target: str) -> None:
    guard = Guard()
    url = guard.follow(guard.check_url("http://a.test/dir/sub/a%2C.jpg?s=%2b"), location).url
    assert str(url) == f"http:{target if target.startswith('//') else f'//a.test{target}'}"


@pytest.mark.parametrize("spelling", ["/x/../status", "/x/%2e%2e/status", "/./status"])
def test_dot_segments_do_not_pass_robots_txt(server: HostileServer, spelling: str) -> None:
    server.robots["*"] = b"User-agent: *\nDisallow: /status\n"
    assert fetch_one(quick(obey_robots=True), server.url(f"{spelling}?code=200")).reason == "robots_disallowed"
