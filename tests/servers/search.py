"""Search providers on loopback: real sockets, each provider's JSON dialect, its limits, and its bad days.

What they find is numbered pictures, ``https://pictures.test/<provider>/<n>.jpg``; how many is chosen per provider.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Query = Mapping[str, str]
KEY = "k3y/with+odd=characters"
TOKEN_HEADERS = {"brave": "x-subscription-token", "openverse": "authorization"}


@dataclass(frozen=True)
class Asked:
    """One request as it came in; ``at_s`` is of the monotonic clock."""

    provider: str
    query: Query
    headers: Mapping[str, str]
    at_s: float


@dataclass(frozen=True)
class Reply:
    """What goes back: a status, a body, more headers; or how to fail to."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    trickle_s: float = 0.0
    drop: bool = False


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(json.dumps(value).encode(), status, {name.replace("_", "-"): text for name, text in headers.items()})


def picture(provider: str, n: int) -> str:
    return f"https://pictures.test/{provider}/{n}.jpg"


def commons(query: Query, n_hits: int) -> Reply:
    """Pages come unordered, ranked by ``index``, and carry tracking parameters in their URLs."""
    if query["gsrnamespace"] != "6" or query["iiprop"] != "url|mime|extmetadata" or query["formatversion"] != "2":
        return as_json({"error": {"code": "badparams", "info": "not what this server expects"}})
    start, size = int(query.get("gsroffset", 0)), int(query["gsrlimit"])
    numbers = range(start, min(start + size, n_hits))
    answer: dict[str, Any] = {"batchcomplete": True}
    if numbers:
        answer["query"] = {"pages": [commons_page(n) for n in reversed(numbers)]}
    if start + size < n_hits:
        answer["continue"] = {"gsroffset": start + size, "continue": "gsroffset||"}
    return as_json(answer)


def commons_page(n: int, **info: Any) -> dict[str, Any]:
    about = {
        "LicenseShortName": {"value": "CC BY-SA 4.0", "source": "commons-desc-page"},
        "Artist": {"value": f'<style>b{{}}</style><a href="//x">Ada&nbsp;&amp; <b>Bo</b> {n}</a>\n'},
    }
    picture_info = {
        "url": picture("wikimedia_commons", n) + "?utm_source=commons.wikimedia.org&utm_campaign=imageinfo",
        "descriptionurl": f"https://commons.test/wiki/File:{n}.jpg",
        "mime": "image/jpeg",
        "extmetadata": about,
    }
    return {"pageid": 1000 + n, "ns": 6, "title": f"File:{n}.jpg", "index": n + 1, "imageinfo": [picture_info | info]}


def openverse(query: Query, n_hits: int) -> Reply:
    page, size = int(query["page"]), int(query["page_size"])
    if size > 20:
        return as_json({"detail": "page_size may not exceed 20 for anonymous requests"}, 401)
    if page * size > 240:
        return as_json({"detail": "pagination depth may not exceed 240"}, 401)
    n_hits = min(n_hits, 240)
    licences = query.get("license", "by-nc,by-sa,cc0").split(",")
    results = [
        {
            "id": str(n), "url": picture("openverse", n), "foreign_landing_url": f"https://flickr.test/{n}",
            "creator": f"Cy {n}", "license": licences[n % len(licences)], "license_version": "2.0",
            "provider": "flickr", "filetype": "jpg",
        }
        for n in range((page - 1) * size, min(page * size, n_hits))
    ]  # fmt: skip
    return as_json({"result_count": n_hits, "page_count": -(-n_hits // size), "page": page, "results": results})


def brave(query: Query, n_hits: int) -> Reply:
    if not 1 <= int(query["count"]) <= 200 or len(query["q"]) > 400:
        return as_json({"type": "ErrorResponse", "error": {"code": "VALIDATION", "detail": "Unable to validate"}}, 422)
    results = [
        {"type": "image_result", "url": f"https://page.test/{n}", "properties": {"url": picture("brave", n)}}
        for n in range(min(int(query["count"]), n_hits))
    ]
    return as_json({"type": "images", "query": {"original": query["q"]}, "results": results})


def google(query: Query, n_hits: int) -> Reply:
    start, num = int(query["start"]), int(query["num"])
    if num > 10 or start + num > 101 or query["searchType"] != "image" or query["cx"] != "engine":
        return as_json({"error": {"code": 400, "message": "Request contains an invalid argument."}}, 400)
    n_hits = min(n_hits, 100)
    items = [
        {"link": picture("google", n), "mime": "image/jpeg", "image": {"contextLink": f"https://page.test/{n}"}}
        for n in range(start - 1, min(start - 1 + num, n_hits))
    ]
    answer: dict[str, Any] = {"kind": "customsearch#search", "queries": {"request": [{}]}}
    if items:
        answer["items"] = items
    if start - 1 + num < n_hits:
        answer["queries"]["nextPage"] = [{"startIndex": start + num}]
    return as_json(answer)


def serpapi(query: Query, n_hits: int) -> Reply:
    page = int(query["ijn"])
    results = [
        {
            "position": n + 1, "original": picture("serpapi", n), "link": f"https://page.test/{n}", "source": "page.test",
            "license_details_url": ("https://creativecommons.org/licenses/by-sa/3.0/deed.en", "https://page.test/terms")[n % 2],
        }
        for n in range(page * 100, min((page + 1) * 100, n_hits))
    ]  # fmt: skip
    if results:
        return as_json({"search_metadata": {"status": "Success"}, "images_results": results})
    error = "Google hasn't returned any results for this query."
    return as_json({"search_metadata": {"status": "Success"}, "error": error})


DIALECTS: Mapping[str, Callable[[Query, int], Reply]] = {
    "wikimedia_commons": commons, "openverse": openverse, "brave": brave, "google": google, "serpapi": serpapi,
}  # fmt: skip
KEYED = {"brave": lambda asked: asked.headers.get("x-subscription-token"),
         "google": lambda asked: asked.query.get("key"),
         "serpapi": lambda asked: asked.query.get("api_key")}  # fmt: skip


@dataclass
class SearchServer:
    """Use as a context manager.

    Attributes:
        n_hits: pictures each provider finds for any query.
        bad_days: replies that a provider gives to its next requests, before it works again.
        asked: requests so far.
        think_s: how long each answer takes.
        most_at_once: requests of one provider that were under way together, at most.
    """

    n_hits: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    bad_days: dict[str, list[Reply]] = field(default_factory=lambda: defaultdict(list))
    asked: list[Asked] = field(default_factory=list)
    think_s: float = 0.0
    most_at_once: int = 0

    @property
    def base_urls(self) -> dict[str, str]:
        return {name: f"http://127.0.0.1:{self._server.server_port}/{name}" for name in DIALECTS}

    def queries(self, provider: str) -> list[Query]:
        return [asked.query for asked in self.asked if asked.provider == provider]

    def times_s(self, provider: str) -> list[float]:
        return [asked.at_s for asked in self.asked if asked.provider == provider]

    def __enter__(self) -> SearchServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body go out apart; without this each answer takes 40 ms more

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._under_way: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        target = urlsplit(handler.path)
        provider = target.path.strip("/")
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Asked(provider, dict(parse_qsl(target.query)), headers, time.monotonic())
        with self._lock:
            self.asked.append(asked)
            self._under_way[provider] += 1
            self.most_at_once = max(self.most_at_once, self._under_way[provider])
            reply = self.bad_days[provider].pop(0) if self.bad_days[provider] else None
        self._closing.wait(self.think_s)
        reply = reply or self._reply(asked)
        with self._lock:
            self._under_way[provider] -= 1
        with contextlib.suppress(OSError):
            self._send(handler, reply)

    def _reply(self, asked: Asked) -> Reply:
        if asked.provider in KEYED and KEYED[asked.provider](asked) != KEY:
            return as_json({"error": f"Invalid API key {KEYED[asked.provider](asked)}"}, 401)
        return DIALECTS[asked.provider](asked.query, self.n_hits[asked.provider])

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        if reply.drop:
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        step = 1 if reply.trickle_s else max(1, len(reply.body))
        for position in range(0, len(reply.body), step):
            handler.wfile.write(reply.body[position : position + step])
            if self._closing.wait(reply.trickle_s):
                return
