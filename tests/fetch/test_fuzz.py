"""Whatever a server or a list says, a fetch ends in a result and a URL in a verdict."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections import Counter
from functools import partial

from hifidata.fetch.address_guard import Guard, ParsedUrl
from hifidata.fetch.client import Fetcher
from hifidata.fetch.result import FetchFailure, FetchRequest, FetchResult
from tests.fetch.conftest import quick
from tests.servers.misdeeds import answer, picture

ANSWERS = (
    answer(picture(), "200 OK", 'ETag: "a"', "X-Robots-Tag: all"),
    answer(gzip.compress(picture()), "200 OK", "Content-Encoding: gzip"),
    answer(b"", "302 Found", "Location: /other?x=1"),
    answer(b"x", "429 No", "Retry-After: 0"),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\n\r\n",
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


def test_damaged_answers_end_in_results() -> None:
    results, stray = asyncio.run(crawl(seed=7, n_urls=600))
    assert not stray
    assert all(result.ok == (result.reason is None) == (result.message is None) for result in results)
    for result in results:
        for text in (result.message, result.etag, result.last_modified, result.final_url):
            assert (text or "").isascii()
    assert len(Counter(result.reason for result in results)) >= 5, "or the damage is too uniform to tell us anything"


def test_damaged_urls_end_in_verdicts() -> None:
    rng = random.Random(7)
    guard = Guard(("127.0.0.0/8",))
    base = guard.check_url("https://a.test/x")
    passed: list[ParsedUrl] = []
    messages: list[str] = []
    for _ in range(20_000):
        text = rng.choice(("http://", "https://", "")) + "".join(rng.choices(URL_PARTS, k=rng.randint(1, 9)))
        for judge in (guard.check_url, partial(guard.follow, base)):
            try:
                passed.append(judge(text))
            except FetchFailure as failure:
                messages.append(failure.message)
    assert all(message.isascii() for message in messages)
    assert len(passed) > 100
    for one in passed:
        assert str(one.url).isascii()
        assert guard.check_url(str(one.url)).host == one.host, "judging twice changes nothing"
