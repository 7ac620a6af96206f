"""Each case of the fault table, against a server that really does it."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.result import FetchRequest
from tests.fetch.conftest import fetch_all, fetch_one, lookup_table, quick
from tests.servers.blackhole import blackhole
from tests.servers.hostile import HostileServer
from tests.servers.misdeeds import ETAG, LAST_MODIFIED, picture

# path, reason (None: the picture arrives), attempts
ENDINGS: tuple[tuple[str, str | None, int], ...] = (
    ("/picture", None, 1),
    ("/good-chunks", None, 1),
    ("/overlong", None, 1),
    ("/odd-header", None, 1),
    ("/gzip", None, 1),
    ("/deflate", None, 1),
    ("/junk-encoding", None, 1),
    ("/hops?left=5", None, 1),
    ("/redirect?to=/picture&code=308", None, 1),
    ("/drop?times=2", None, 3),
    ("/status?code=500&times=2", None, 3),
    ("/hops?left=6", "too_many_redirects", 1),
    ("/loop", "too_many_redirects", 1),
    ("/redirect", "bad_redirect", 1),
    ("/redirect?to=http://[broken", "bad_redirect", 1),
    ("/redirect?to=http://user:secret@127.0.0.1/", "bad_redirect", 1),
    ("/redirect?to=file:///etc/passwd", "bad_scheme", 1),
    ("/redirect?to=data:image/png;base64,AAAA", "bad_scheme", 1),
    ("/status?code=400", "http_4xx", 1),
    ("/status?code=404", "http_4xx", 1),
    ("/status?code=410", "http_4xx", 1),
    ("/status?code=451&X-Robots-Tag=noindex", "http_4xx", 1),
    ("/status?code=500", "http_5xx", 3),
    ("/status?code=429", "rate_limited", 3),
    ("/status?code=206", "bad_response", 1),
    ("/status?code=304", "bad_response", 2),
    ("/trickle", "timeout", 1),
    ("/hang", "timeout", 3),
    ("/stall", "timeout", 3),
    ("/continues", "timeout", 1),
    ("/silence", "connect_error", 3),
    ("/drop", "incomplete_body", 3),
    ("/short", "incomplete_body", 3),
    ("/broken-chunks", "incomplete_body", 3),
    ("/cut-chunks", "incomplete_body", 3),
    ("/gzip-cut", "incomplete_body", 3),
    ("/huge", "too_large", 1),
    ("/endless", "too_large", 1),
    ("/endless-chunks", "too_large", 1),
    ("/gzip-bomb", "too_large", 1),
    ("/gzip-twice", "bad_response", 1),
    ("/gzip-members", "bad_response", 1),
    ("/gzip-lie", "bad_response", 1),
    ("/brotli", "bad_response", 1),
    ("/no-status-line", "bad_response", 2),
    ("/bad-length", "bad_response", 2),
    ("/two-lengths", "bad_response", 2),
    ("/long-header", "bad_response", 2),
    ("/endless-headers", "bad_response", 2),
    ("/html", "not_image", 1),
    ("/text", "not_image", 1),
    ("/empty", "empty_file", 1),
    ("/header?X-Robots-Tag=noai, noimageai", "opted_out", 1),
    ("/header?TDM-Reservation=1", "opted_out", 1),
    ("/header?X-Robots-Tag=googlebot: noai", None, 1),
    ("/header?TDM-Reservation=0", None, 1),
)  # fmt: skip


def limits_for(reason: str | None, attempts: int) -> FetcherConfig:
    """Return the limits of a test: short ones only if they are to be reached, so that a busy machine reaches no other."""
    if reason == "timeout" and attempts == 1:
        return quick()
    if reason in ("timeout", "connect_error"):
        return quick(total_timeout_s=60)
    return quick(dns_timeout_s=60, connect_timeout_s=60, read_timeout_s=60, total_timeout_s=60)


@pytest.mark.parametrize(("path", "reason", "attempts"), ENDINGS, ids=lambda value: str(value))
def test_every_fault_ends_in_its_own_reason(
    server: HostileServer, path: str, reason: str | None, attempts: int
) -> None:
    result = fetch_one(limits_for(reason, attempts), server.url(path))
    assert (result.reason and result.reason) == reason, result.message
    assert result.ok == (reason is None)
    assert (result.content == picture()) == result.ok
    assert result.content is None or result.content_sha256 == hashlib.sha256(result.content).hexdigest()
    assert result.attempts == attempts
    assert (result.message is None) == result.ok
    assert server.url("") not in (result.message or ""), "the URL has a column of its own"


def test_one_url_never_has_more_network_time_than_the_total(server: HostileServer) -> None:
    """Tries share it: a host that trickles is not given three times as long."""
    result = fetch_one(quick(total_timeout_s=0.5, read_timeout_s=5), server.url("/trickle"))
    assert result.reason == "timeout"
    assert result.attempts == 1, "no time is left for another try"
    assert len(server.seen) == 1


def test_a_body_over_the_limit_is_neither_read_on_nor_cut_and_kept(server: HostileServer) -> None:
    tracemalloc.start()
    try:
        results = fetch_all(
            quick(), [server.url(path) for path in ("/endless", "/endless-chunks", "/gzip-bomb", "/huge")]
        )
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {result.reason for result in results} == {"too_large"}
    assert {result.content for result in results} == {None}
    assert peak_bytes < 16 * 2**20, "client and server together; the bomb alone holds 64 MiB"


def test_a_body_of_exactly_the_limit_is_fetched(server: HostileServer) -> None:
    for path in ("/picture", "/gzip"):
        assert fetch_one(quick(max_bytes=len(picture())), server.url(path)).ok
        assert fetch_one(quick(max_bytes=len(picture()) - 1), server.url(path)).reason == "too_large"


def test_an_answer_longer_than_announced_does_not_poison_the_next(server: HostileServer) -> None:
    settings = quick(connections_per_host=1)
    results = fetch_all(settings, [server.url(path) for path in ("/overlong", "/picture", "/overlong", "/picture")])
    assert [result.content for result in results] == [picture()] * 4


def test_refused_urls_send_nothing(server: HostileServer) -> None:
    urls = [
        "file:///etc/passwd",
        "ftp://127.0.0.1/a",
        "data:image/png;base64,AA",
        "pipe:id",
        "",
        "picture.jpg",
        "//127.0.0.1/a",
    ]
    results = fetch_all(quick(), urls)
    assert [str(result.reason) for result in results] == ["bad_scheme"] * 4 + ["bad_url"] * 3
    assert {result.attempts for result in results} == {0}
    assert server.n_connections == 0


def test_hash_and_placeholder_are_judged_on_the_bytes(server: HostileServer) -> None:
    digest = hashlib.sha256(picture()).hexdigest()
    url = server.url("/picture")
    right, wrong = fetch_all(
        quick(), [FetchRequest(url, expected_sha256=digest.upper()), FetchRequest(url, expected_sha256="0" * 64)]
    )
    assert right.ok
    assert wrong.reason == "hash_mismatch"
    assert (wrong.content, wrong.content_sha256, wrong.n_bytes) == (None, digest, len(picture()))
    known = fetch_one(quick(placeholder_sha256=frozenset({digest})), url)
    assert known.reason == "placeholder"


def test_a_copy_that_is_still_good_is_not_sent_again(server: HostileServer) -> None:
    url = server.url("/picture")
    first = fetch_one(quick(), url)
    assert (first.etag, first.last_modified, first.not_modified) == (ETAG, LAST_MODIFIED, False)
    by_etag, by_date, changed = fetch_all(
        quick(),
        [
            FetchRequest(url, etag=first.etag, last_modified="ignored beside an ETag"),
            FetchRequest(url, last_modified=first.last_modified),
            FetchRequest(url, etag='"v0"'),
        ],
    )
    for held in (by_etag, by_date):
        assert (held.ok, held.not_modified, held.content, held.http_status) == (True, True, None, 304)
    assert changed.content == picture()


def test_a_stored_etag_cannot_smuggle_headers(server: HostileServer) -> None:
    assert fetch_one(quick(), FetchRequest(server.url("/picture"), etag='"a"\r\nX-Evil: 1')).ok
    assert fetch_one(quick(), server.url("/odd-header")).etag is None
    assert not any("x-evil" in seen.headers for seen in server.seen)


def test_names_that_cannot_be_looked_up_are_told_apart(server: HostileServer) -> None:
    async def lookup(host: str) -> Sequence[str]:
        if host == "hangs.test":
            await asyncio.sleep(3600)
        if host == "fails.test":
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        if host == "missing.test":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return {"good.test": ["127.0.0.1"], "nothing.test": []}[host]

    hosts = ("hangs.test", "fails.test", "missing.test", "nothing.test", "good.test")
    results = fetch_all(quick(total_timeout_s=5), [server.url("/picture", host) for host in hosts], lookup)
    reasons = [str(result.reason) for result in results]
    assert reasons == ["dns_error", "dns_error", "unknown_host", "unknown_host", "None"]
    assert [result.attempts for result in results] == [3, 3, 1, 1, 1]
    assert [result.retryable for result in results] == [True, True, False, False, False]
    assert results[0].total_s < 3 * 0.5 + 1
    assert results[-1].total_s < 0.5, "one hanging name must not hold up another"


def test_hanging_name_servers_block_neither_the_loop_nor_the_end(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    really = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **kwargs: Any) -> Any:
        if host.endswith(".test"):
            released.wait()
            raise socket.gaierror(socket.EAI_NONAME, "late")
        return really(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        settings = quick(allow_private=("127.0.0.1", "::1"), tries=1, dns_timeout_s=1.0, total_timeout_s=3.0)
        urls = [f"http://h{number}.test/a.jpg" for number in range(20)] + [server.url("/picture", "localhost")]
        *hanging, good = fetch_all(settings, urls)
    finally:
        released.set()
    assert {result.reason for result in hanging} == {"dns_error"}
    assert good.ok


def test_hosts_without_a_listener_and_hosts_that_swallow_connections_fail_in_time() -> None:
    with blackhole("127.0.0.1") as port, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        urls = [f"http://127.0.0.1:{number}/a.jpg" for number in (port, unused.getsockname()[1])]
        swallowed, refused = fetch_all(quick(tries=1), urls)
    assert swallowed.reason == "timeout"
    assert "connecting" in (swallowed.message or "")
    assert swallowed.total_s < 1.2
    assert refused.reason == "connect_error"


def test_times_tell_waiting_from_the_network(server: HostileServer) -> None:
    settings = quick(connections_per_host=1)
    first, second = fetch_all(settings, [server.url("/picture?delay_s=0.2"), server.url("/picture?delay_s=0.2")])
    assert first.queued_s < 0.1
    assert first.response_s >= 0.2
    assert second.queued_s >= 0.15
    assert first.connect_s > 0
    assert second.connect_s == 0, "the connection is used again"
    assert second.total_s >= second.queued_s + second.response_s


def test_requests_say_who_asks_and_send_neither_cookies_nor_credentials(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    settings = quick(contact="crawl@example.org", connections_per_host=1)
    paths = ["/header?Set-Cookie=a=b", "/picture", "/redirect?to=/picture"]
    results = fetch_all(
        settings, [server.url(path, "site.test") for path in paths], lookup_table({"site.test": ["127.0.0.1"]})
    )
    assert all(result.ok for result in results)
    assert len(server.seen) == 4
    for seen in server.seen:
        assert seen.headers["user-agent"].startswith("hifidata/")
        assert seen.headers["user-agent"].endswith("(+mailto:crawl@example.org)")
        assert seen.headers["accept-encoding"] == "identity"
        assert not {"cookie", "authorization", "referer"} & set(seen.headers)


def test_a_lookup_that_gives_public_addresses_is_not_reached_without_a_contact() -> None:
    result = fetch_one(quick(), "http://site.test/a.jpg", lookup_table({"site.test": ["93.184.216.34"]}))
    assert result.reason == "blocked_address"
    assert "fetch.contact" in (result.message or "")


@pytest.mark.parametrize(
    "broken", ["client.check_image", "client.opt_out", "request.full_jitter_s", "robots.lines_for"]
)
def test_an_unexpected_error_costs_one_url(server: HostileServer, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail(*_: Any) -> None:
        monkeypatch.undo()
        raise ZeroDivisionError("line one\nline tw\u00f6")

    server.robots["*"] = b"User-agent: *\nDisallow: /x\n"
    monkeypatch.setattr(f"hifidata.fetch.{broken}", fail)
    n_urls = 1 if broken == "robots.lines_for" else 2  # robots.txt concerns all URLs
    urls = [server.url(f"/status?code=500&times=1&v={n}") for n in range(n_urls)]
    failed, *others = sorted(fetch_all(quick(obey_robots=True), urls), key=lambda result: result.ok)
    assert failed.reason == ("robots_unreachable" if broken == "robots.lines_for" else "fetcher_error")
    assert failed.retryable
    assert "unexpected ZeroDivisionError: line one line tw\\xf6" in (failed.message or "")
    assert all(other.ok for other in others)
