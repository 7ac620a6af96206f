"""What the hostile server can do, one function per misdeed."""

from __future__ import annotations

import asyncio
import gzip
import io
import zlib
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache

from PIL import Image

Query = Mapping[str, str]
Misdeed = Callable[[asyncio.StreamWriter, Query, Mapping[str, str], int], Awaitable[None]]
"""Takes the connection, the query, the request's headers (lower case) and how often this path was asked for."""

ETAG = '"v1"'
LAST_MODIFIED = "Wed, 21 Oct 2015 07:28:00 GMT"
JPEG = "Content-Type: image/jpeg"


@lru_cache(maxsize=4)
def picture(shade: int = 128) -> bytes:
    """A small real JPEG."""
    file = io.BytesIO()
    Image.linear_gradient("L").point(lambda level: (level + shade) % 256).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A well-formed answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def robots_answer(chosen: bytes | int) -> bytes:
    """robots.txt: its text, or just a status."""
    return answer(chosen) if isinstance(chosen, bytes) else answer(b"", f"{chosen} Chosen")


async def _picture(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], _: int) -> None:
    if headers.get("if-none-match") == ETAG or headers.get("if-modified-since") == LAST_MODIFIED:
        writer.write(f"HTTP/1.1 304 Not Modified\r\nETag: {ETAG}\r\n\r\n".encode())
        return
    await asyncio.sleep(float(query.get("delay_s", 0)))
    writer.write(answer(picture(), "200 OK", JPEG, f"ETag: {ETAG}", f"Last-Modified: {LAST_MODIFIED}"))


async def _header(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], _: int) -> None:
    """A picture with the headers of the query."""
    writer.write(answer(picture(), "200 OK", JPEG, *(f"{name}: {value}" for name, value in query.items())))


async def _status(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], n_asked: int) -> None:
    """The query's ``code`` for the first ``times`` requests (default: for ever), then a picture; the rest are headers."""
    if n_asked > int(query.get("times", 10**9)):
        writer.write(answer(picture()))
        return
    extra = (f"{name}: {value}" for name, value in query.items() if name not in ("code", "times", "v"))
    writer.write(answer(b"sorry", f"{query['code']} Chosen", *extra))


async def _redirect(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], _: int) -> None:
    """To the query's ``to``; without one there is no Location either."""
    location = (f"Location: {query['to']}",) if "to" in query else ()
    writer.write(answer(b"", f"{query.get('code', '302')} Found", *location))


async def _hops(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], _: int) -> None:
    left = int(query["left"])
    if left:
        writer.write(answer(b"", "302 Found", f"Location: /hops?left={left - 1}"))
    else:
        writer.write(answer(picture()))


async def _trickle(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], _: int) -> None:
    """A byte per ``every_s``, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b"\xff")
        await writer.drain()
        await asyncio.sleep(float(query.get("every_s", 0.05)))


async def _slow_head(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], _: int) -> None:
    """A byte of a header at a time, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _hang(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], _: int) -> None:
    await asyncio.sleep(3600)


async def _stall(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], _: int) -> None:
    """Half a picture, then nothing."""
    body = picture()
    writer.write(answer(body)[: -len(body) // 2])
    await writer.drain()
    await asyncio.sleep(3600)


async def _drop(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], n_asked: int) -> None:
    """Resets the connection amid the body for the first ``times`` requests (default: for ever), then a picture."""
    if n_asked > int(query.get("times", 10**9)):
        writer.write(answer(picture()))
        return
    body = picture()
    writer.write(answer(body)[: -len(body) // 2])
    await writer.drain()
    await asyncio.sleep(0.02)
    writer.transport.abort()


async def _silence(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], _: int) -> None:
    """Closes without a word."""
    raise ConnectionError("closed on purpose")


def _raw(text: bytes, *, close: bool = True) -> Misdeed:
    async def misdeed(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], _: int) -> None:
        writer.write(text)
        await writer.drain()
        if close:
            raise ConnectionError("closed on purpose")

    return misdeed


def _endless(head: bytes, piece: bytes) -> Misdeed:
    async def misdeed(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], _: int) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()

    return misdeed


async def _continues(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], _: int) -> None:
    """Interim answers without end."""
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.001)


async def _gzip_bomb(writer: asyncio.StreamWriter, query: Query, headers: Mapping[str, str], _: int) -> None:
    """64 MiB of zeros behind a picture, in less than 80 KiB."""
    writer.write(answer(_bomb(), "200 OK", JPEG, "Content-Encoding: gzip"))


@lru_cache(maxsize=1)
def _bomb() -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    start = stream.compress(picture()) + stream.flush(zlib.Z_FULL_FLUSH)
    zeros = stream.compress(bytes(2**20)) + stream.flush(zlib.Z_FULL_FLUSH)  # depends on nothing before it
    return start + zeros * 64


def _encoded(label: str, body: bytes) -> Misdeed:
    return _raw(answer(body, "200 OK", JPEG, f"Content-Encoding: {label}"), close=False)


def _all_misdeeds() -> dict[str, Misdeed]:
    body = picture()
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    huge = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"
    return {
        "picture": _picture,
        "header": _header,
        "status": _status,
        "redirect": _redirect,
        "hops": _hops,
        "trickle": _trickle,
        "slow-head": _slow_head,
        "hang": _hang,
        "stall": _stall,
        "drop": _drop,
        "silence": _silence,
        "loop": _raw(answer(b"", "302 Found", "Location: /loop"), close=False),
        "short": _raw(answer(body).replace(b"Content-Length: ", b"Content-Length: 9")),
        "overlong": _raw(answer(body) + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", close=False),
        "broken-chunks": _raw(chunked + b"5\r\nhello\r\nnot a length\r\n"),
        "cut-chunks": _raw(chunked + f"{len(body):x}\r\n".encode() + body + b"\r\n"),
        "good-chunks": _raw(chunked + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n", close=False),
        "no-status-line": _raw(b"hello, this is not HTTP at all\r\n\r\n"),
        "bad-length": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n" + body),
        "two-lengths": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\n" + body),
        "long-header": _raw(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000 + b"\r\nContent-Length: 0\r\n\r\n"),
        "odd-header": _raw(b"HTTP/1.1 200 OK\r\nETag: \xff\xfe\r\nContent-Length: %d\r\n\r\n" % len(body) + body),
        "endless-headers": _endless(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 1000),
        "continues": _continues,
        "huge": _raw(huge + b"Content-Length: 1099511627776\r\n\r\n" + body, close=False),
        "endless": _endless(huge + b"\r\n" + body, bytes(2**16)),
        "endless-chunks": _endless(chunked, b"10000\r\n" + bytes(2**16) + b"\r\n"),
        "html": _raw(answer(b"<!DOCTYPE html><p>This picture was removed", "200 OK", JPEG), close=False),
        "text": _raw(answer(b"no picture", "200 OK", JPEG), close=False),
        "empty": _raw(answer(b"", "200 OK", JPEG), close=False),
        "gzip": _encoded("gzip", gzip.compress(body)),
        "deflate": _encoded("deflate", zlib.compress(body)),
        "gzip-bomb": _gzip_bomb,
        "gzip-cut": _encoded("gzip", gzip.compress(body)[:-20]),
        "gzip-twice": _encoded("gzip, gzip", gzip.compress(gzip.compress(body))),
        "gzip-members": _encoded("gzip", gzip.compress(body) * 2),
        "gzip-lie": _encoded("gzip", body),
        "brotli": _encoded("br", body),
        "junk-encoding": _encoded("utf-8", body),
        "robots-huge": _endless(b"HTTP/1.1 200 OK\r\n\r\nUser-agent: *\nDisallow: /status\n", b"# filler\n" * 8192),
        "robots-redirect": _raw(answer(b"", "301 Moved", "Location: /robots-moved"), close=False),
        "robots-to-private": _raw(answer(b"", "301 Moved", "Location: http://127.0.0.2:8265/api"), close=False),
        "robots-moved": _raw(answer(b"User-agent: *\nDisallow: /status\n"), close=False),
    }


MISDEEDS = _all_misdeeds()
