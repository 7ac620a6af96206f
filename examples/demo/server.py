"""The demo's web server: serves the demo's photos on loopback while a command runs.

    python -m examples.demo.server datasets/demo-photos -- hifidata run pipelines/demo.yaml --out datasets/demo

The program builds the photos and serves them. It writes ``urls.csv`` beside them (person, url, sha256). Then it runs the
command and exits with its exit code. Some listed URLs are traps of real sites: a removed, moved or changed image, a web page
instead of an image, robots.txt and an opt-out from data mining. A crawler must not fetch two further URLs. ``EXPECTED``
lists the verdict of each URL.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import mimetypes
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from examples.demo.photos import EXPECTED as EXPECTED_PHOTOS
from examples.demo.photos import build_demo_photos
from hifidata.core.errors import HifiError, SourceError
from hifidata.core.files import write_bytes

HOST = "127.0.0.1"
ROBOTS = b"User-agent: *\nDisallow: /private/\n"
PAGE = b"<!DOCTYPE html><title>Gone</title><p>This picture was removed by its owner.</p>"
SERVED = "Eileen_Collins/portrait_01.jpg"
"""The photo that the server sends for URLs whose image must not be used."""


class Trap(NamedTuple):
    """A listed URL that is not a usable photo.

    Attributes:
        person: identity in the list.
        target: path on the server, or a URL.
        expected: expected reason.
        sha256: listed sha256.
    """

    person: str
    target: str
    expected: str
    sha256: str = ""


TRAPS = (
    Trap("Guest_1", "/removed/portrait.jpg", "http_4xx"),
    Trap("Guest_2", "/page/portrait.jpg", "not_image"),
    Trap("Guest_3", "/private/portrait.jpg", "robots_disallowed"),
    Trap("Guest_4", "/reserved/portrait.jpg", "opted_out"),
    Trap("Guest_4", "/changed/portrait.jpg", "hash_mismatch", hashlib.sha256(b"as it was").hexdigest()),
    Trap("Guest_6", "http://10.0.0.1/portrait.jpg", "blocked_address"),
    Trap("Guest_6", "file:///etc/hostname", "bad_scheme"),
)
MOVED = "Guest_1/portrait_cmyk.jpg"
"""The photo whose listed URL redirects."""


EXPECTED: dict[str, str] = {**EXPECTED_PHOTOS, **{trap.target: str(trap.expected) for trap in TRAPS}}
"""Expected status or reason by path of the photo or target of the trap."""


class _Handler(BaseHTTPRequestHandler):
    """Serves photos under /photos/, and the traps."""

    protocol_version = "HTTP/1.1"
    photos: Path

    def do_GET(self) -> None:
        """Answer one request."""
        path = unquote(urlsplit(self.path).path)
        top, _, rest = path.lstrip("/").partition("/")
        if path == "/robots.txt":
            self._answer(ROBOTS, "text/plain")
        elif top == "moved":
            self._answer(b"", "text/plain", 301, {"Location": f"/photos/{quote(rest)}"})
        elif top == "page":
            self._answer(PAGE, "text/html")
        elif top == "reserved":
            self._answer((self.photos / SERVED).read_bytes(), "image/jpeg", 200, {"X-Robots-Tag": "noai, noimageai"})
        elif top in ("private", "changed"):
            self._answer((self.photos / SERVED).read_bytes(), "image/jpeg")
        elif top == "photos" and rest in EXPECTED_PHOTOS:
            self._answer((self.photos / rest).read_bytes(), mimetypes.guess_type(rest)[0] or "image/jpeg")
        else:
            self._answer(b"not here", "text/plain", 404)

    def _answer(self, body: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        named = {"Content-Type": kind, "Content-Length": str(len(body)), "ETag": f'"{hashlib.md5(body).hexdigest()}"'}
        for name, value in {**named, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Print no line per request."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore closed connections, which a crawler may cause at any time. Print other errors."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def serving(photos: Path) -> Iterator[Path]:
    """Serve the folder of photos on loopback, and yield the path of the URL list in this folder.

    The port of an earlier list is reused if it is free. Other URLs would be other candidates, and a finished demo would be
    reprocessed.
    """
    table = photos / "urls.csv"
    handler = type("Handler", (_Handler,), {"photos": photos})
    try:
        server = _Server((HOST, _port_of(table)), handler)
    except OSError:
        server = _Server((HOST, 0), handler)
    content = _table(server.server_address[1])
    if not table.exists() or table.read_bytes() != content:
        write_bytes(table, content)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield table
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _port_of(table: Path) -> int:
    try:
        rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
        return urlsplit(rows[0]["url"]).port or 0
    except (OSError, ValueError, KeyError, IndexError):
        return 0


def _table(port: int) -> bytes:
    site = f"http://{HOST}:{port}"
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(("person", "url", "sha256"))
    for path in EXPECTED_PHOTOS:
        rows.writerow((path.split("/")[0], f"{site}/{'moved' if path == MOVED else 'photos'}/{quote(path)}", ""))
    for trap in TRAPS:
        rows.writerow((trap.person, trap.target if "://" in trap.target else site + trap.target, trap.sha256))
    return file.getvalue().encode()


def main() -> int:
    """Build the photos, serve them, run the command, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo.server", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("photos", type=Path, help="folder for the demo's photos")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND to run while the server runs")
    arguments = parser.parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        parser.error("command: missing; pass -- hifidata run pipelines/demo.yaml --out datasets/demo")
    try:
        with serving(build_demo_photos(arguments.photos)):
            process = subprocess.Popen(command)
            while True:
                try:
                    return process.wait()
                except KeyboardInterrupt:  # the command receives Ctrl-C, too, and stops by itself
                    continue
    except (HifiError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code if isinstance(error, HifiError) else SourceError.exit_code


if __name__ == "__main__":
    sys.exit(main())
