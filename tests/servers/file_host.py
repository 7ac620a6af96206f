"""A file server on loopback that can resume, and can misbehave in the ways downloads meet."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass
class Hosted:
    """One file and how it is served.

    Attributes:
        data: its bytes.
        etag: its version; "" sends none.
        statuses: answered first, one request each.
        drops: bytes after which the connection ends, one request each.
        stall_s: pause in the middle of every body.
        honours_range: whether ``Range`` is answered with 206.
        shift: added to the byte a 206 begins at.
        checks_version: whether ``If-Range`` is looked at.
        redirect: path to send the client to.
        says_length: whether the size is announced.
        headers: further ones.
    """

    data: bytes
    etag: str | None = None
    statuses: deque[int] = field(default_factory=deque)
    drops: deque[int] = field(default_factory=deque)
    stall_s: float = 0.0
    honours_range: bool = True
    shift: int = 0
    checks_version: bool = True
    redirect: str = ""
    says_length: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The ETag header."""
        return f'"{hashlib.sha256(self.data).hexdigest()[:16]}"' if self.etag is None else self.etag


@dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    range: str | None
    if_range: str | None
    headers: Mapping[str, str]


class FileHost:
    """Use as a context manager; ``files`` by path, ``asked`` holds the requests so far, ``sent`` the body bytes."""

    def __init__(self) -> None:
        self.files: dict[str, Hosted] = {}
        self.asked: list[Asked] = []
        self.sent = 0

    def url(self, path: str) -> str:
        """Address of a path here."""
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def put(self, path: str, data: bytes, **how: object) -> str:
        """Serves bytes; returns their address."""
        self.files[path] = Hosted(data, **how)  # type: ignore[arg-type]
        return self.url(path)

    def __enter__(self) -> FileHost:
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                host._answer(self)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up, as they may
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.path, headers.get("range"), headers.get("if-range"), headers)
        self.asked.append(asked)
        hosted = self.files.get(request.path.partition("?")[0])
        status = 404 if hosted is None else hosted.statuses.popleft() if hosted.statuses else 200
        if hosted is None or status != 200:
            request.send_response(status)
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif hosted.redirect:
            request.send_response(302)
            request.send_header("Location", hosted.redirect)
            request.send_header("Content-Length", "0")
            request.end_headers()
        else:
            self._send(request, hosted, asked)

    def _send(self, request: BaseHTTPRequestHandler, hosted: Hosted, asked: Asked) -> None:
        fits = not hosted.checks_version or asked.if_range in (None, hosted.version)
        start = int(asked.range.removeprefix("bytes=").rstrip("-")) if asked.range else 0
        start = start + hosted.shift if asked.range and hosted.honours_range and fits else 0
        if start > len(hosted.data):
            request.send_response(416)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = hosted.data[start:]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(hosted.data) - 1}/{len(hosted.data)}")
        if hosted.says_length:
            request.send_header("Content-Length", str(len(body)))
        else:
            request.close_connection = True
        if hosted.version:
            request.send_header("ETag", hosted.version)
        for name, value in hosted.headers.items():
            request.send_header(name, value)
        request.end_headers()
        cut = hosted.drops.popleft() if hosted.drops else len(body)
        try:
            self._write(request, body[: cut // 2])
            time.sleep(hosted.stall_s)
            self._write(request, body[cut // 2 : cut])
        except OSError:  # the client has gone
            cut = 0
        request.close_connection = request.close_connection or cut < len(body)

    def _write(self, request: BaseHTTPRequestHandler, piece: bytes) -> None:
        request.wfile.write(piece)
        request.wfile.flush()
        self.sent += len(piece)
