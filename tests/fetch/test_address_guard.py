"""No spelling, redirect or name server leads the fetcher to an address that is not public."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from urllib.parse import quote

import aiohttp
import pytest

from hifidata.config.recipe import resolve
from hifidata.core.errors import RecipeError
from hifidata.core.reasons import Reason
from hifidata.fetch.address_guard import BlockedAddressError, Guard, is_public
from hifidata.fetch.client import Fetcher
from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.result import FetchFailure
from tests.fetch.address_forms import FORBIDDEN, PUBLIC, REFUSED_AS_NAMES
from tests.fetch.conftest import fetch_all, fetch_one, lookup_table, quick
from tests.servers.hostile import HostileServer

ALLOWED = "127.0.0.9"
"""The one address that these tests may reach; everything else on loopback is as forbidden as the rest."""

Serve = Callable[..., HostileServer]


@pytest.fixture
def canary(serve: Serve) -> HostileServer:
    """Listens where the forbidden spellings of loopback would end up; nobody may ever connect."""
    addresses = ["127.0.0.1", "127.0.0.2"]
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pass
        else:
            addresses.append("::1")
    return serve(addresses=addresses)


def expected(form: str) -> Reason:
    return "bad_url" if form in REFUSED_AS_NAMES else "blocked_address"


def test_the_table_is_long_enough() -> None:
    assert len(set(FORBIDDEN)) == len(FORBIDDEN) >= 80


def test_every_form_is_refused_as_first_url(canary: HostileServer) -> None:
    urls = [f"http://{form}:{canary.port}/picture" for form in FORBIDDEN]
    results = fetch_all(quick(allow_private=(ALLOWED,), contact="crawl@example.org"), urls)
    wrong = {form: result for form, result in zip(FORBIDDEN, results, strict=True) if result.reason != expected(form)}
    assert not wrong
    assert {result.attempts for result in results} == {0}
    assert canary.n_connections == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_every_form_is_refused_as_redirect_target(canary: HostileServer, serve: Serve, scheme: str) -> None:
    server = serve(addresses=[ALLOWED])
    targets = [f"{scheme}://{form}:{canary.port}/picture" for form in FORBIDDEN]
    urls = [server.url(f"/redirect?to={quote(target, safe='')}") for target in targets]
    results = fetch_all(quick(allow_private=(ALLOWED,), contact="crawl@example.org", total_timeout_s=10), urls)
    for form, result in zip(FORBIDDEN, results, strict=True):
        refused_as = "bad_redirect" if form in REFUSED_AS_NAMES else "blocked_address"
        assert result.reason == refused_as, f"{form}: {result}"
        assert result.http_status == 302
    assert len(server.paths()) == len(FORBIDDEN)
    assert canary.n_connections == 0


def test_every_form_is_refused_as_answer_of_the_dns(canary: HostileServer) -> None:
    names = {f"h{number}.test": [form.strip("[]").replace("%25", "%")] for number, form in enumerate(FORBIDDEN)}
    urls = [canary.url("/picture", name) for name in names]
    results = fetch_all(quick(allow_private=(ALLOWED,), contact="crawl@example.org"), urls, lookup_table(names))
    wrong = [r for r in results if r.reason != "blocked_address"]
    assert not wrong
    assert canary.n_connections == 0


def test_one_bad_address_condemns_the_answer(serve: Serve) -> None:
    server = serve(addresses=[ALLOWED])
    for addresses in ([ALLOWED, "127.0.0.1"], ["127.0.0.1", ALLOWED], [ALLOWED, "fe80::1%1"]):
        lookup = lookup_table({"mixed.test": addresses})
        result = fetch_one(quick(allow_private=(ALLOWED,)), server.url("/picture", "mixed.test"), lookup)
        assert result.reason == "blocked_address"
    assert server.n_connections == 0


def test_a_name_that_resolves_differently_the_second_time_gains_nothing(serve: Serve) -> None:
    server = serve(addresses=[ALLOWED])
    canary = serve(addresses=["127.0.0.1"], port=server.port)
    asked: list[str] = []

    async def rebinding(host: str) -> Sequence[str]:
        asked.append(host)
        return [ALLOWED] if len(asked) == 1 else ["127.0.0.1"]

    urls = [server.url(path, "rebind.test") for path in ("/picture", "/redirect?to=/picture", "/silence")]
    results = fetch_all(quick(allow_private=(ALLOWED,)), urls, rebinding)
    assert [result.ok for result in results] == [True, True, False]
    assert len(asked) == 1, "what was judged is what is connected to"
    again = fetch_one(quick(allow_private=(ALLOWED,)), urls[0], rebinding)
    assert again.reason == "blocked_address"
    assert canary.n_connections == 0


@pytest.mark.parametrize("form", ["127.0.0.1", "[::1]", "localhost"])
def test_the_socket_itself_refuses_whatever_slipped_through_before(canary: HostileServer, form: str) -> None:
    """aiohttp asks the guard for every socket, also where the URL holds the address and nothing is looked up."""

    async def connect() -> None:
        guard = Guard((ALLOWED,))
        connector = aiohttp.TCPConnector(socket_factory=guard.open_socket)
        async with aiohttp.ClientSession(connector=connector) as session:
            await session.get(f"http://{form}:{canary.port}/picture")

    with pytest.raises(aiohttp.ClientConnectorError) as caught:
        asyncio.run(connect())
    assert isinstance(caught.value.os_error, BlockedAddressError)
    assert canary.n_connections == 0


def test_the_canary_is_really_there(canary: HostileServer) -> None:
    """Otherwise the tests above could not fail."""
    forms = [address if ":" not in address else f"[{address}]" for address in canary.addresses]
    urls = [f"http://{form}:{canary.port}/picture" for form in forms]
    assert all(result.ok for result in fetch_all(quick(allow_private=("127.0.0.0/8", "::1")), urls))


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_public(text: str) -> None:
    assert is_public(ip_address(text))
    Guard().check_url(f"http://[{text}]/" if ":" in text else f"http://{text}/")


def test_without_the_open_web_only_the_named_networks_are_left() -> None:
    guard = Guard(("127.0.0.0/8", "fd00::/8"), open_web=False)
    for text in ("127.3.2.1", "fd00::1"):
        guard.check_address(text)
    for text in PUBLIC:
        with pytest.raises(FetchFailure):
            guard.check_address(text)


@pytest.mark.parametrize(
    "url",
    [
        "http://", "http:///a.jpg", "http:a.jpg", "http:/example.com/a", "http://user@example.com/", "http://:pw@example.com/",
        "http://example.com:0/", "http://example.com:22/", "http://example.com:25/", "http://example.com:99999/",
        "http://example.com:80:80/", "http://exa mple.com/", "http://exam\tple.com/", "http://exam\nple.com/",
        "http://example.com\\@127.0.0.1/", "http://example.com\x00.org/", "http://a..com/", "http://.com/",
        "http://" + "a" * 64 + ".com/", "http://" + "a." * 140 + "com/", "http://example.com/" + "a" * 9000, "http://xn--/",
        "http://loc\u200balhost/", "http://[::1", "http://[::1].example.com/", "http://@]", "http://a_b!.com/", "picture.jpg", "", "   ",
    ],
)  # fmt: skip
def test_urls_that_make_no_sense_are_named_as_such(url: str) -> None:
    with pytest.raises(FetchFailure) as caught:
        Guard().check_url(url)
    assert caught.value.reason == "bad_url"
    assert caught.value.message.isascii()


@pytest.mark.parametrize(
    ("url", "requested"),
    [
        (" https://Example.COM/A b.jpg ", "https://example.com/A%20b.jpg"),
        ("http://example.com:80/b/c.jpg?x=%2B+%26&y=a%20b#frag", "http://example.com/b/c.jpg?x=%2B+%26&y=a%20b"),
        ("http://example.com/line\r\n\tbreak.jpg", "http://example.com/linebreak.jpg"),
        ("http://例え.jp/é.jpg", "http://xn--r8jz45g.jp/%C3%A9.jpg"),
        ("https://m.example.com/MV5B@@._V1_.jpg", "https://m.example.com/MV5B@@._V1_.jpg"),
        ("http://-odd-.tumblr_x.com:8080/a", "http://-odd-.tumblr_x.com:8080/a"),
    ],
)
def test_ordinary_urls_pass_in_their_normal_form(url: str, requested: str) -> None:
    assert str(Guard().check_url(url).url) == requested


def test_a_trailing_dot_does_not_make_another_host() -> None:
    assert Guard().check_url("http://example.com./a").host == Guard().check_url("http://EXAMPLE.com/a").host


@pytest.mark.parametrize(
    "wrong",
    [
        {"contact": "me"}, {"contact": "a@b.c\r\nX: y"}, {"contact": "Me <me@example.org>"}, {"contact": "http://x"},
        {"contact": "me@example.org", "user_agent_name": "Mozilla/5.0"}, {"allow_private": ("127.0.0.1/8",)},
        {"allow_private": ("localhost",)}, {"contact": "me@example.org", "tries": 0},
        {"contact": "me@example.org", "delay_s": -1}, {"contact": "me@example.org", "read_timeout_s": float("nan")},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=r"fetch\.\w+: "):
        resolve({"name": "x", "source": {"kind": "folder"}, "fetch": wrong}, "recipe")


def test_the_open_web_is_not_crawled_without_a_contact() -> None:
    with pytest.raises(RecipeError, match=r"fetch\.contact: missing"):
        Fetcher(FetcherConfig())
