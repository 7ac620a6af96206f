"""A web server with real sockets on loopback that misbehaves in every way the fetcher must survive.

What it does is chosen by the path, see ``misdeeds.py``; ``/robots.txt`` is chosen per host. Every request is noted with its
time, so that spacing can be asserted. It runs in a thread with an event loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.servers.misdeeds import MISDEEDS, Query, answer, robots_answer

_MAX_CONNECTION_S = 60.0


@dataclass(frozen=True)
class Seen:
    """One request as it came in; ``at_s`` is of the monotonic clock, ``target`` is the path and query as sent."""

    host: str
    target: str
    path: str
    query: Query
    headers: Mapping[str, str]
    at_s: float


@dataclass
class HostileServer:
    """Use as a context manager.

    Attributes:
        addresses: loopback addresses to listen on, all with the same port.
        tls: context with a certificate, to speak HTTPS.
        files: folder served under ``/files/``.
        robots: per host (as in the URL, without port), or "*": bytes to serve, an int status, or the path of a misdeed.
            404 where nothing is given.
        raw: bytes to answer with, by path; of a list the first, until one is left.
        seen: requests so far.
        n_connections: connections so far, whether or not a request came.
    """

    addresses: Sequence[str] = ("127.0.0.1",)
    tls: ssl.SSLContext | None = None
    files: Path | None = None
    robots: dict[str, bytes | int | str] = field(default_factory=dict)
    raw: dict[str, bytes | list[bytes]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    n_connections: int = 0
    port: int = 0

    def url(self, path: str, host: str | None = None) -> str:
        """The URL of a path here."""
        return f"{'https' if self.tls else 'http'}://{host or self.addresses[0]}:{self.port}{path}"

    def paths(self, host: str | None = None) -> list[str]:
        """Paths asked for, in order, robots.txt left out."""
        return [s.path for s in self.seen if s.path != "/robots.txt" and host in (None, s.host)]

    def times_s(self, host: str) -> list[float]:
        """When each request to a host came, robots.txt included."""
        return [s.at_s for s in self.seen if s.host == host]

    def __enter__(self) -> HostileServer:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(timeout=10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _listen(self) -> None:
        self._connections: set[asyncio.Task[None]] = set()
        self._servers = []
        for address in self.addresses:
            server = await asyncio.start_server(self._connected, address, self.port, ssl=self.tls, backlog=512)
            self._servers.append(server)
            self.port = server.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served by a task")
        self._connections.add(task)
        self.n_connections += 1
        try:
            await asyncio.wait_for(self._serve(reader, writer), _MAX_CONNECTION_S)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, asyncio.LimitOverrunError):
            pass  # the client left, which is what most misdeeds end with
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first = await reader.readexactly(1)
            if first == b"\x16":  # a TLS greeting
                writer.write(answer(b"this is http", "400 Bad Request"))
                return
            head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            sent = head[0].split(" ")[1]
            target = urlsplit(sent)
            fields = (line.split(":", 1) for line in head[1:] if ":" in line)
            headers = {name.strip().lower(): value.strip() for name, value in fields}
            host = headers.get("host", "").rsplit(":", 1)[0]
            seen = Seen(host, sent, target.path, dict(parse_qsl(target.query)), headers, time.monotonic())
            self.seen.append(seen)
            await self._respond(seen, writer)
            await writer.drain()

    async def _respond(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.path == "/robots.txt":
            chosen = self.robots.get(seen.host, self.robots.get("*", 404))
            if not isinstance(chosen, str):
                writer.write(robots_answer(chosen))
                return
            name, query = chosen, seen.query
        elif seen.path in self.raw:
            raw = self.raw[seen.path]
            writer.write(raw if isinstance(raw, bytes) else raw.pop(0) if len(raw) > 1 else raw[0])
            return
        elif seen.path.startswith("/files/") and self.files is not None:
            path = self.files / unquote(seen.path.removeprefix("/files/"))
            writer.write(answer(path.read_bytes()) if path.is_file() else answer(b"", "404 Not Found"))
            return
        else:
            name, query = seen.path, seen.query
        misdeed = MISDEEDS.get(name.strip("/").split("/")[0])
        if misdeed is None:
            writer.write(answer(b"", "404 Not Found"))
            return
        await misdeed(writer, query, seen.headers, sum(s.path == seen.path for s in self.seen))
