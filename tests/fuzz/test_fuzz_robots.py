"""robots.txt files made at random are parsed and applied in a bounded time, and every answer is a delay or a reason.

``HIFI_FUZZ_ROUNDS`` multiplies the number of files, ``HIFI_FUZZ_SEED`` draws others.
"""

from __future__ import annotations

import asyncio
import math
import random
import time

from hifidata.fetch.address_guard import Guard
from hifidata.fetch.result import FetchFailure
from hifidata.fetch.robots import MAX_ROBOTS_BYTES, parse_robots
from tests.fuzz.test_fuzz_http import ROUNDS, SEED, run_bounded

N_FILES, N_LARGE_FILES = 400, 6
MAX_CHECK_S = 1.0
"""CPU time of one check; about ten times the slowest on an idle machine."""

FIELDS = ("User-agent", "Disallow", "Allow", "Crawl-delay", "Request-rate", "Visit-time", "Sitemap", "Host", "disalow", "x", "")  # fmt: skip
BETWEEN = (": ", ":", " ", " : ", "\t", "")
VALUES = (
    "*", "hifidata", "hifidata/0.1", "otherbot", "/", "/a", "/*", "/*.jpg$", "/a*b*c", "*" * 50, "$", "/%2", "/%zz", "/%2F%", "é",
    "1", "0", "-1", "1e999", "nan", "inf", "9" * 400, "9" * 5000, "1/1", "1/0", "0/1", "1/" + "9" * 400, "9" * 400 + "/1d", "1/1h 0900-2500",
    "0900-1700", "http://[", "//", "\0", "\x85", "\u2028", "#", "",
)  # fmt: skip
ENDS = ("\n", "\r\n", "\r", "\n\n", " # remark\n", "")
LARGE = ("Disallow: /*{n}a$\n", "Disallow: /*a*b*{n}\n", "Disallow: /{n}\n", "User-agent: a{n}\n", "Allow: /{n}$\n", "Disallow: " + "a*" * 900 + "{n}\n")  # fmt: skip
URLS = ("http://a.test/", "http://a.test/a.jpg?x=%2F", "http://a.test/a/../b", "http://a.test/" + "a" * 8000)


def small_file(rng: random.Random) -> bytes:
    lines = (
        rng.choice(FIELDS) + rng.choice(BETWEEN) + rng.choice(VALUES) + rng.choice(ENDS)
        for _ in range(rng.randint(0, 30))
    )
    data = bytearray("".join(lines).encode())
    for _ in range(rng.choice((0, 0, 1, 3))):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    return rng.choice((b"", b"", b"\xef\xbb\xbf", b"User-agent: *\n")) + bytes(data)


def large_file(rng: random.Random) -> bytes:
    kinds = rng.sample(LARGE, k=rng.randint(1, 2))
    text = "User-agent: *\n" + "".join(rng.choice(kinds).format(n=n) for n in range(30_000))
    return text.encode()[:MAX_ROBOTS_BYTES]


async def check_file(body: bytes) -> None:
    guard = Guard()
    rules = parse_robots(body, "hifidata")
    for url in map(guard.check_url, URLS):
        began_s = time.process_time()
        outcome = await asyncio.gather(rules.check(url, 30.0), return_exceptions=True)
        match outcome[0]:
            case float() as delay_s:
                assert math.isfinite(delay_s)
                assert 0 <= delay_s <= 30
            case FetchFailure() as failure:
                assert failure.reason in ("robots_disallowed", "crawl_delay_too_long")
                assert failure.message.isprintable()
            case error:
                raise AssertionError(body[:200]) from error
        assert time.process_time() - began_s < MAX_CHECK_S, body[:200]


def check_all() -> None:
    rng = random.Random(SEED)
    for _ in range(N_FILES * ROUNDS):
        asyncio.run(check_file(small_file(rng)))
    for _ in range(N_LARGE_FILES * ROUNDS):
        asyncio.run(check_file(large_file(rng)))


def test_robots_files_made_at_random_end_in_rules() -> None:
    run_bounded(__name__, "", cpu_s=60, n_bytes=2 * 2**30)


if __name__ == "__main__":
    check_all()
