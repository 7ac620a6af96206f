"""Responses, heads of responses and URLs that were damaged at random end in results, within bounds of time and memory.

``HIFI_FUZZ_ROUNDS`` multiplies the number of cases, ``HIFI_FUZZ_SEED`` draws others.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import resource
import subprocess
import sys
from collections import Counter
from functools import partial

import pytest

from hifidata.fetch.address_guard import Guard, ParsedUrl
from hifidata.fetch.client import Fetcher
from hifidata.fetch.response_head import normalise_head
from hifidata.fetch.result import FetchFailure, FetchRequest, FetchResult
from tests.conftest import PROJECT_ROOT
from tests.fetch.conftest import quick
from tests.fetch.test_odd_servers import ODD, UNCLEAR, UNUSUAL
from tests.servers.misdeeds import answer, picture

ROUNDS = int(os.environ.get("HIFI_FUZZ_ROUNDS", "1"))
SEED = int(os.environ.get("HIFI_FUZZ_SEED", "7"))

ANSWERS = (
    answer(picture(), "200 OK", 'ETag: "a"', "X-Robots-Tag: all"),
    answer(gzip.compress(picture()), "200 OK", "Content-Encoding: gzip"),
    answer(b"", "302 Found", "Location: /other?x=1"),
    answer(b"x", "429 No", "Retry-After: 0"),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\n\r\n",
    *(raw for raw in (ODD | UNUSUAL | UNCLEAR).values() if len(raw) < 10_000),
)
LINES = (
    b"\r\n", b"\0: \0\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n",
    b"Content-Encoding: deflate\r\n", b"Location: http://[::1\r\n", b"Location: //\xff\xfe\r\n", b"Location: http://@]\r\n",
    b"Location: http://xn--/\r\n", b"Location: \r\n", b"Set-Cookie: a=\xff; Domain=..\r\n", b"ETag: \xff\xfe\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n", b"Retry-After: Wed, 99 Foo\r\n", b"X-Robots-Tag: :,:,\xff:\r\n",
    b"Retry-After: Mon, 01 Jan 0001 00:00:00 +2359\r\n", b"Content-Type: \xff/;charset=zzz\r\n",
    b"Link: <http://[>; rel=x\r\n", b"Last-Modified: \xe2\x80\xa8\r\n",
)  # fmt: skip
URL_PARTS = (
    "http", "https", ":", "/", "//", "@", "[", "]", "%", "%25", "\\", "\0", "\ud800", "\u3002", "\uff0e", "é", "xn--", "a", "1",
    "0x", "127", ".", "..", "?", "#", "\t", "\n", " ", "\u200b", "\u00ad", "::1", "ffff", "%zz", "\uff20", "\uff1a", "\uff0f",
)  # fmt: skip


def damaged(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(ANSWERS))
    for _ in range(rng.choice((0, 1, 1, 2))):
        at = rng.randrange(min(len(data), 300))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + 9]
            case 2:
                del data[max(at, 20) + rng.randrange(len(data)) :]
            case _:
                start = data.find(b"\r\n") + 2
                data[start:start] = rng.choice(LINES)
    return bytes(data)


async def crawl(seed: int, n_urls: int) -> tuple[list[FetchResult], list[object]]:
    """Results, and errors that nobody caught."""
    rng = random.Random(seed)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(damaged(rng))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    stray: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: stray.append(context))
    settings = quick(read_timeout_s=0.2, total_timeout_s=0.5, backoff_s=0.001, max_retry_after_s=0.01)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, Fetcher(settings) as fetcher:
        port = server.sockets[0].getsockname()[1]
        asked = [FetchRequest(f"http://127.0.0.1:{port}/{n}", etag='"x"' if n % 3 else None) for n in range(n_urls)]
        return list(await asyncio.gather(*(fetcher.fetch(request) for request in asked))), stray


def check_answers(n: int) -> None:
    results, stray = asyncio.run(crawl(SEED, n))
    assert not stray
    assert all(result.ok == (result.reason is None) == (result.message is None) for result in results)
    for result in results:
        assert result.reason != "fetcher_error", result.message
        for text in (result.message, result.etag, result.last_modified, result.final_url):
            assert (text or "").isascii()
    assert len(Counter(result.reason for result in results)) >= 5, "or the damage is too uniform to tell us anything"


def check_heads(n: int) -> None:
    rng = random.Random(SEED)
    n_normal = 0
    for _ in range(n):
        head = damaged(rng).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        plain, is_odd = normalise_head(head)
        assert plain == head or normalise_head(plain) == (plain, False), head
        if plain == head and not is_odd:
            continue
        n_normal += 1
        names = [line.partition(b":")[0] for line in plain.split(b"\r\n")[1:-2]]
        assert names.count(b"content-length") + (b"transfer-encoding" in names) <= 1, head
        assert b"" not in names
        assert b"\0" not in b"".join(names)
    assert n_normal > n / 2


def check_urls(n: int) -> None:
    rng = random.Random(SEED)
    guard = Guard(("127.0.0.0/8",))
    base = guard.check_url("https://a.test/x")
    passed: list[ParsedUrl] = []
    messages: list[str] = []
    for _ in range(n):
        text = rng.choice(("http://", "https://", "http://a.test/", "")) + "".join(
            rng.choices(URL_PARTS, k=rng.randint(1, 9))
        )
        for judge in (guard.check_url, partial(guard.follow, base)):
            try:
                passed.append(judge(text))
            except FetchFailure as failure:
                messages.append(failure.message)
    assert all(message.isascii() for message in messages)
    assert len(passed) > n / 20
    for one in passed:
        text = str(one.url)
        assert text.isascii()
        assert text.isprintable()
        assert " " not in text
        assert guard.check_url(text) == one, "to check it twice changes nothing"


CHECKS = {"answers": (check_answers, 400), "heads": (check_heads, 5_000), "urls": (check_urls, 5_000)}


def run_bounded(module: str, name: str, cpu_s: int, n_bytes: int) -> None:
    """Run one check of a module in a process of its own with limits on CPU time and memory."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s * ROUNDS, cpu_s * ROUNDS))
        resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))

    command = [sys.executable, "-m", module, name]
    done = subprocess.run(command, cwd=PROJECT_ROOT, preexec_fn=limit, capture_output=True, text=True)
    assert done.returncode == 0, f"exit {done.returncode} (seed {SEED}, {ROUNDS} rounds): {done.stderr[-2000:]}"


@pytest.mark.parametrize("name", CHECKS)
def test_damaged_http_ends_in_results(name: str) -> None:
    run_bounded(__name__, name, cpu_s=30, n_bytes=2 * 2**30)


if __name__ == "__main__":
    check, n_cases = CHECKS[sys.argv[1]]
    check(n_cases * ROUNDS)
