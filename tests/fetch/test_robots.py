"""robots.txt: asked before anything else, obeyed, and read as no where it cannot be read."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from protego import Protego

from hifidata.fetch.address_guard import Guard
from hifidata.fetch.client import Fetcher
from hifidata.fetch.result import FetchRequest
from hifidata.fetch.robots import MAX_ROBOTS_BYTES, MAX_WILDCARD_RULES, lines_for, parse_robots
from tests.fetch.conftest import fetch_all, fetch_one, lookup_table, quick
from tests.servers.hostile import HostileServer

DISALLOW_ALL = b"User-agent: *\nDisallow: /\n"
OBEDIENT = quick(obey_robots=True)

# robots.txt (bytes, status or misdeed), reason for /picture
ANSWERS = (
    (b"User-agent: *\nDisallow: /private\n", None),
    (DISALLOW_ALL, "robots_disallowed"),
    (b"User-agent: *\nDisallow: /pic\nAllow: /picture\n", None),
    (b"User-agent: *\nDisallow: /*ture$\n", "robots_disallowed"),
    (b"User-agent: HiFiData\nDisallow: /\nUser-agent: *\nAllow: /\n", "robots_disallowed"),
    (b"User-agent: hifidata\nAllow: /\nUser-agent: *\nDisallow: /\n", None),
    (b"User-agent: hifidata/0.1 (test) # us\nDisallow: /\n", "robots_disallowed"),
    (b"User-agent: hifidata-news\nDisallow: /\n", None),
    (b"User-agent: otherbot\nDisallow: /\n", None),
    (b"User-agent: otherbot\nUser-agent: *\nDisallow: /\n", "robots_disallowed"),
    (b"User-agent: *\nUser-agent: otherbot\n\n# a remark\nDisallow: /\n", "robots_disallowed"),
    (b"User-agent: *\nSitemap: http://x/s.xml\nUser-agent: otherbot\nDisallow: /\n", "robots_disallowed"),
    (b"User-agent: *\nDisallow: /a\nUser-agent: otherbot\nDisallow: /\n", None),
    (b"\xef\xbb\xbfUser-agent: *\r\nDisallow: /\r\n", "robots_disallowed"),
    (b"user-agent:*\rdisallow:/", "robots_disallowed"),
    (b"User-agent: *\nCrawl-delay: 3600\n", "crawl_delay_too_long"),
    (b"User-agent: *\nRequest-rate: 1/1h\n", "crawl_delay_too_long"),
    (b"User-agent: *\nCrawl-delay: nonsense\n", None),
    (b"User-agent: *\nCrawl-delay: 1e999\n", None),
    (b"User-agent: *\nCrawl-delay: 1e308\n", "crawl_delay_too_long"),
    (b"User-agent: *\nRequest-rate: 1/" + b"9" * 400, "crawl_delay_too_long"),
    (b"User-agent: *\nRequest-rate: 1/" + b"9" * 5000, None),
    (b"User-agent: *\nRequest-rate: " + b"9" * 400 + b"/1d", None),
    (b"User-agent: *\n" + b"Disallow: /*x$\n" * 300, None),
    (b"User-agent: *\n" + b"Disallow: /*x$\n" * 300 + b"Disallow: *ture", "robots_disallowed"),
    (b"User-agent: *\n" + b"Disallow: /*x$\n" * (MAX_WILDCARD_RULES + 1), "robots_disallowed"),
    (b"User-agent: *\nAllow: /\nUser-agent: x\n" + b"Disallow: /*x$\n" * (MAX_WILDCARD_RULES + 1), None),
    (b"", None),
    (b"\x00\xff\xfe\x89PNG" * 999, None),
    (b"<!DOCTYPE html><html>no such page</html>", None),
    (404, None),
    (410, None),
    (401, None),
    (403, None),
    (204, "robots_unreachable"),
    (429, "robots_unreachable"),
    (500, "robots_unreachable"),
    (503, "robots_unreachable"),
    ("/hang", "robots_unreachable"),
    ("/trickle", "robots_unreachable"),
    ("/drop", "robots_unreachable"),
    ("/no-status-line", "robots_unreachable"),
    ("/loop", "robots_unreachable"),
    ("/silence", "connect_error"),
    ("/robots-redirect", None),
)


@pytest.mark.parametrize(("robots", "reason"), ANSWERS, ids=lambda value: repr(value)[:60])
def test_every_answer_for_robots_txt_has_its_meaning(
    server: HostileServer, robots: bytes | int | str, reason: str | None
) -> None:
    server.robots["*"] = robots
    result = fetch_one(OBEDIENT, server.url("/picture"))
    assert (result.reason and result.reason) == reason, result.message
    assert server.seen[0].path == "/robots.txt"
    assert ("/picture" in server.paths()) == (reason is None)
    assert result.attempts == (1 if reason is None else 0)


def test_names_that_do_not_resolve_end_before_any_picture_is_asked_for() -> None:
    async def lookup(host: str) -> list[str]:
        await asyncio.sleep(3600)
        return []

    settings = quick(obey_robots=True, dns_timeout_s=0.1)
    result = fetch_one(settings, "http://site.test/a.jpg", lookup)
    assert (result.reason, result.attempts, result.retryable) == ("dns_error", 0, True)
    assert "robots.txt" in (result.message or "")


def test_an_endless_robots_txt_is_read_for_500_kib_and_obeyed(server: HostileServer) -> None:
    server.robots["*"] = "/robots-huge"
    urls = [server.url("/picture"), server.url("/status?code=200")]
    allowed, disallowed = fetch_all(OBEDIENT, urls)
    assert allowed.ok
    assert disallowed.reason == "robots_disallowed"


def test_the_last_line_of_a_cut_file_does_not_allow_more_than_it_said(server: HostileServer) -> None:
    head = b"User-agent: *\nDisallow: /\n"
    filler = b"#" * (MAX_ROBOTS_BYTES - len(head) - len(b"\nAllow: /pict")) + b"\n"
    server.robots["*"] = head + filler + b"Allow: /picture-frames\n"
    assert fetch_one(OBEDIENT, server.url("/picture")).reason == "robots_disallowed"
    server.robots["*"] = head + b"Allow: /pict\n"
    assert fetch_one(OBEDIENT, server.url("/picture")).ok, "or the cut would not have mattered"


def test_robots_txt_is_asked_once_per_origin(server: HostileServer) -> None:
    names = {"a.test": ["127.0.0.1"], "b.test": ["127.0.0.1"]}
    server.robots["b.test"] = DISALLOW_ALL
    urls = [server.url(f"/picture?v={number}", host) for number in range(20) for host in names]
    results = fetch_all(OBEDIENT, urls, lookup_table(names))
    assert [result.ok for result in results] == [True, False] * 20
    assert sorted(seen.host for seen in server.seen if seen.path == "/robots.txt") == ["a.test", "b.test"]


def test_one_caller_giving_up_does_not_cost_the_others_the_file(server: HostileServer) -> None:
    server.robots["*"] = "/picture"

    async def run() -> list[object]:
        async with Fetcher(OBEDIENT) as fetcher:
            tasks = [asyncio.create_task(fetcher.fetch(FetchRequest(server.url(f"/picture?v={n}")))) for n in range(3)]
            await asyncio.sleep(0)
            tasks[0].cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

    gave_up, *others = asyncio.run(run())
    assert isinstance(gave_up, asyncio.CancelledError)
    assert all(getattr(other, "ok", False) for other in others)


def test_leaving_the_fetcher_while_robots_txt_hangs_leaves_nothing_behind(server: HostileServer) -> None:
    server.robots["*"] = "/hang"

    async def run() -> int:
        async with Fetcher(OBEDIENT) as fetcher:
            task = asyncio.create_task(fetcher.fetch(FetchRequest(server.url("/picture"))))
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return len(asyncio.all_tasks()) - 1

    assert asyncio.run(run()) == 0


def test_redirect_targets_are_asked_for_their_own_robots_txt(server: HostileServer) -> None:
    server.robots["closed.test"] = DISALLOW_ALL
    lookup = lookup_table({"open.test": ["127.0.0.1"], "closed.test": ["127.0.0.1"]})
    target = server.url("/picture", "closed.test")
    result = fetch_one(OBEDIENT, server.url(f"/redirect?to={target}", "open.test"), lookup)
    assert result.reason == "robots_disallowed"
    assert server.paths("closed.test") == []


def test_robots_txt_cannot_redirect_to_a_private_address(server: HostileServer) -> None:
    server.robots["*"] = "/robots-to-private"
    result = fetch_one(quick(obey_robots=True, allow_private=("127.0.0.1",)), server.url("/picture"))
    assert result.reason == "blocked_address"
    assert server.paths() == []


def test_crawl_delay_is_kept(server: HostileServer) -> None:
    server.robots["*"] = b"User-agent: *\nCrawl-delay: 0.15\n"
    results = fetch_all(
        quick(obey_robots=True, max_crawl_delay_s=0.2), [server.url(f"/picture?v={n}") for n in range(4)]
    )
    assert all(result.ok for result in results)
    times_s = server.times_s("127.0.0.1")
    assert len(times_s) == 5
    assert min(after - before for before, after in pairwise(times_s)) >= 0.15 - 0.03, (
        "noted on arrival, on a busy machine"
    )


def test_a_file_of_thousands_of_agents_costs_next_to_nothing() -> None:
    agents, rules = range(2000), range(2000)
    text = "\n".join([*(f"User-agent: a{n}" for n in agents), "User-agent: *", *(f"Disallow: /{n}" for n in rules)])
    lines = list(lines_for(text, "hifidata"))
    parsed = Protego.parse("\n".join(lines))
    assert len(lines) == len(rules) + 1, "Protego's time grows with agents times rules"
    assert not parsed.can_fetch("http://x.test/1999", "hifidata")
    assert parsed.can_fetch("http://x.test/picture", "hifidata")


def test_rules_that_take_long_run_outside_the_event_loop_and_once_per_url() -> None:
    body = b"User-agent: *\n" + b"".join(b"Disallow: /*a%d*b\n" % number for number in range(1000))
    rules = parse_robots(body, "hifidata")
    url = Guard().check_url("http://x.test/" + "a" * 8000)

    async def check() -> set[int]:
        threads = set()
        asyncio.get_running_loop().set_default_executor(
            ThreadPoolExecutor(1, initializer=lambda: threads.add(threading.get_ident()))
        )
        for _ in range(3):
            await rules.check(url, 1.0)
        return threads

    assert len(asyncio.run(check()) - {threading.get_ident()}) == 1
    assert rules.allows.cache_info().misses == 1  # type: ignore[union-attr]
