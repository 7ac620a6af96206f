"""Download one file: resume broken downloads, and check the file before it gets its name.

The received bytes are in ``.<name>.part`` beside the target. ``.<name>.part.json`` holds the version of the file (the
server's ETag or Last-Modified). A later try or command resumes from both.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from hifidata.core.deadline import call_in_time
from hifidata.core.errors import WeightsError
from hifidata.core.files import write_bytes
from hifidata.core.retry import backoff_s, retry_after_s
from hifidata.weights.catalogue import FileState
from hifidata.weights.find import sha256_of
from hifidata.weights.sanity import problem_of

MIRROR_VARIABLE = "HIFI_WEIGHTS_MIRROR"
INVALID_URL_ERRORS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    urllib3.exceptions.LocationParseError,  # requests does not translate it when it opens the connection
)
ALTERNATIVES = f"try a mirror ({MIRROR_VARIABLE}), or download the file manually into the HIFI_WEIGHTS folder"
DECODED = ("gzip", "x-gzip", "deflate")
"""Content encodings that requests decodes; none is requested."""
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

MAX_BYTES = 64 * 2**30
"""Limit of a file whose size is not known."""

OnBytes = Callable[[int, "int | None"], None]
"""Called with the number of received bytes and the total, None if the server does not send it."""


@dataclass(frozen=True)
class DownloadLimits:
    """Timeouts and tries of a download.

    Attributes:
        timeout_s: for connecting, and between two reads of a body.
        tries: failures in a row without new bytes that end the download.
        backoff_s: wait after the first failure; doubled after each further one.
        max_wait_s: limit of every wait, also of one from Retry-After.
        chunk_bytes: most bytes written at once.
        grace_s: time of a whole download, over all tries, beside that for its bytes.
        min_bytes_per_s: every received byte allows the download this much more time.
    """

    timeout_s: float = 30.0
    tries: int = 5
    backoff_s: float = 1.0
    max_wait_s: float = 60.0
    chunk_bytes: int = 1 << 14
    grace_s: float = 300.0
    min_bytes_per_s: float = 4096.0


class _TransientError(Exception):
    """A try failed, and the next one may succeed."""

    def __init__(self, problem: str, retry_after_s: float = 0.0) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class _TimeBudget:
    """The time that is left for a download. Without it, a server that sends a byte per second would never end."""

    def __init__(self, address: str, limits: DownloadLimits) -> None:
        self._address = address
        self.limits = limits
        self.left_s = limits.grace_s

    def spend(self, seconds: float, n_bytes: int = 0) -> None:
        """Subtract the time that ``n_bytes`` took. Raises WeightsError if no time is left."""
        self.left_s += n_bytes / self.limits.min_bytes_per_s - seconds
        if self.left_s < 0:
            raise WeightsError(
                f"{self._address}: sends less than {self.limits.min_bytes_per_s:g} bytes per second; the received bytes are kept, "
                f"run the same command to resume, or try a mirror ({MIRROR_VARIABLE})"
            )


def mirrored(url: str) -> str:
    """Return the address of a file on the mirror. The first matching item of the list ``HIFI_WEIGHTS_MIRROR`` counts.

    Items are separated by commas. ``https://mirror/prefix`` serves every file at ``https://mirror/prefix/<host>/<path>``.
    ``https://huggingface.co=https://mirror`` replaces one prefix by another.
    """
    for item in filter(None, (part.strip() for part in os.environ.get(MIRROR_VARIABLE, "").split(","))):
        source, equals, replacement = item.partition("=")
        source = source.rstrip("/")
        if not equals:
            return f"{source}/{url.partition('://')[2]}"
        if url == source or url.startswith(f"{source}/"):
            return replacement.rstrip("/") + url[len(source) :]
    return url


def fetch(url: str, target: Path, expected: FileState | None, limits: DownloadLimits, on_bytes: OnBytes) -> FileState:
    """Download a file, which appears under its name only when it is complete and correct.

    Args:
        url: its published address; ``HIFI_WEIGHTS_MIRROR`` may redirect the request.
        target: path of the file.
        expected: its size and hash, or None if unknown. Without a hash, the content must fit the suffix.
        limits: timeouts and tries.
        on_bytes: progress.

    Returns:
        Its actual size and hash.

    Raises:
        WeightsError: the download failed, or the file is not the expected one. One line.
    """
    part = target.with_name(f".{target.name}.part")
    _require_paths(target, part)
    address = mirrored(url)
    was_resumed = _download(address, part, expected, limits, on_bytes)
    state = FileState(part.stat().st_size, sha256_of(part))
    if expected and was_resumed and state.sha256 != expected.sha256:
        _discard(part)  # perhaps parts of two versions: start again
        _download(address, part, expected, limits, on_bytes)
        state = FileState(part.stat().st_size, sha256_of(part))
    if expected and state.sha256 != expected.sha256:
        _discard(part)
        raise WeightsError(
            f"{address}: has sha256 {state.sha256}, expected {expected.sha256}; the file was changed or is damaged, nothing "
            f"was kept: try another mirror ({MIRROR_VARIABLE}) or download the right file manually"
        )
    if expected is None and (problem := problem_of(part, target.suffix)):
        _discard(part)
        raise WeightsError(f"{address}: the download {problem}; nothing was kept: {ALTERNATIVES}")
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    _discard(part)
    return state


def _require_paths(target: Path, part: Path) -> None:
    """Raise WeightsError if a file or folder is in the way of the target or its partial file."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise WeightsError(
            f"{target.parent}: is a file, expected a folder; remove it, then run the same command"
        ) from None
    for path in (target, part, _version_file(part)):
        if path.is_dir():
            raise WeightsError(f"{path}: is a folder, expected a file; remove it, then run the same command")


def _download(address: str, part: Path, expected: FileState | None, limits: DownloadLimits, on_bytes: OnBytes) -> bool:
    """Fill ``part``; return whether it comes from several responses."""
    was_resumed, n_failures = False, 0
    budget = _TimeBudget(address, limits)
    most = part.stat().st_size if part.exists() else 0
    while True:
        try:
            resumed = _try_once(address, part, expected, budget, on_bytes)
        except _TransientError as error:
            n_bytes = part.stat().st_size if part.exists() else 0
            was_resumed = was_resumed or n_bytes > 0
            n_failures = 1 if n_bytes > most else n_failures + 1
            most = max(most, n_bytes)
            if n_failures >= limits.tries:
                remedy = f"{n_bytes} bytes are kept, run the same command to resume" if n_bytes else "try again later"
                raise WeightsError(f"{address}: {error}, {n_failures} times in a row; {remedy}") from None
            time.sleep(min(max(backoff_s(limits.backoff_s, n_failures), error.retry_after_s), limits.max_wait_s))
        else:
            return was_resumed or resumed


def _try_once(address: str, part: Path, expected: FileState | None, budget: _TimeBudget, on_bytes: OnBytes) -> bool:
    """Send one request; return whether it continued an earlier one. Raises _TransientError or WeightsError."""
    offset, validator = _resume_point(part, address)
    headers = {"Accept-Encoding": "identity", "User-Agent": "hifidata"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    try:
        with _open(address, headers, budget) as response:
            _check_status(response, address, part)
            if expected is None:
                _refuse_web_page(response, address)
            is_plain = _is_plain(response, address, part)
            resumes = response.status_code == 206 and _starts_at(response, offset)
            offset = offset if resumes else 0
            total = _total(response, offset) if is_plain else None
            if expected and total and expected.n_bytes not in (None, total):
                _discard(part)
                raise WeightsError(
                    f"{address}: has {total} bytes, expected {expected.n_bytes}; it is another file: try another mirror "
                    f"({MIRROR_VARIABLE}) or download the right file manually"
                )
            _require_room(part, (total or 0) - offset)
            _save_version(part, address, response if is_plain else None)
            limit = total or (expected and expected.n_bytes) or MAX_BYTES
            on_bytes(offset, total)
            n_bytes = _write_body(response, part, offset, limit, budget, lambda done: on_bytes(done, total))
            if total is not None and n_bytes != total:
                raise _TransientError(f"the connection ended after {n_bytes} of {total} bytes")
    except INVALID_URL_ERRORS as error:
        raise WeightsError(f"{address}: not a valid URL ({error}); check {MIRROR_VARIABLE}") from error
    except requests.exceptions.TooManyRedirects as error:
        raise WeightsError(f"{address}: redirects without end ({error}); {ALTERNATIVES}") from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _TransientError(_description(error)) from error
    return resumes


def _open(address: str, headers: Mapping[str, str], budget: _TimeBudget) -> requests.Response:
    """Send a request and return the response before its body is read."""
    began_s = time.monotonic()
    try:
        return call_in_time(
            lambda: requests.get(address, headers=dict(headers), stream=True, timeout=budget.limits.timeout_s),
            budget.left_s,
        )
    except TimeoutError:
        raise _TransientError("the server did not answer in time") from None
    finally:
        budget.spend(time.monotonic() - began_s)


def _write_body(
    response: requests.Response,
    part: Path,
    offset: int,
    limit: int,
    budget: _TimeBudget,
    on_bytes: Callable[[int], None],
) -> int:
    """Append the body to ``part`` and return the size of the file. Raises WeightsError beyond ``limit`` bytes."""
    with open(part, "r+b" if offset else "wb") as file:
        file.seek(offset)
        file.truncate()
        n_bytes = offset
        read_s = time.monotonic()
        while chunk := response.raw.read1(budget.limits.chunk_bytes, decode_content=True):
            began_s, read_s = read_s, time.monotonic()
            budget.spend(read_s - began_s, len(chunk))
            n_bytes += len(chunk)
            if n_bytes > limit:
                _discard(part)
                raise WeightsError(
                    f"{response.url}: sends more than the expected {limit} bytes; nothing was kept: {ALTERNATIVES}"
                )
            file.write(chunk)
            on_bytes(n_bytes)
        file.flush()
    return n_bytes


def _check_status(response: requests.Response, address: str, part: Path) -> None:
    """Raise if the response is not the file or a part of it."""
    status = response.status_code
    if status in (200, 206):
        return
    if status == 416:  # the partial file does not fit the server's file
        _discard(part)
        raise _TransientError("the server refused to resume")
    if status in RETRIED_STATUSES:
        raise _TransientError(f"the server answered {status} {response.reason}", retry_after_s(response.headers) or 0.0)
    raise WeightsError(f"{address}: the server answered {status} {response.reason}; {ALTERNATIVES}")


def _refuse_web_page(response: requests.Response, address: str) -> None:
    """Raise if the response is a web page. Used only without a known hash, which would decide."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        raise WeightsError(f"{address}: the server sent a web page (text/html), perhaps a login page; {ALTERNATIVES}")


def _is_plain(response: requests.Response, address: str, part: Path) -> bool:
    """Return whether the body is not encoded. An encoded body has another length and cannot be resumed.

    Raises:
        WeightsError: the encoding is not supported.
        _TransientError: the response is a part from the middle of an encoded body.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return True
    if encoding not in DECODED:
        raise WeightsError(
            f"{address}: the server sent Content-Encoding {encoding}, requested was identity; {ALTERNATIVES}"
        )
    if response.status_code == 206:
        _discard(part)
        raise _TransientError(f"the server resumed in Content-Encoding {encoding}")
    return False


def _require_room(part: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if n_bytes > free:
        raise WeightsError(
            f"{part.parent}: {n_bytes} bytes are needed, {free} are free; make room, or set HIFI_WEIGHTS_CACHE to a folder on "
            "a larger disk"
        )


def _starts_at(response: requests.Response, offset: int) -> bool:
    """Return True if a 206 response starts at the requested byte, else raise _TransientError."""
    if not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
        raise _TransientError("the server resumed at another byte than requested")
    return True


def _total(response: requests.Response, offset: int) -> int | None:
    """Return the size of the whole file, if the server sends it."""
    whole = response.headers.get("Content-Range", "").rpartition("/")[2]
    if response.status_code == 206 and whole.isdigit():
        return int(whole)
    length = response.headers.get("Content-Length", "")
    return offset + int(length) if length.isdigit() else None


def _resume_point(part: Path, address: str) -> tuple[int, str]:
    """Return the first missing byte and the file's version; (0, "") if resuming is not safe."""
    try:
        saved = json.loads(_version_file(part).read_text(encoding="utf-8"))
        size = part.stat().st_size
    except (OSError, ValueError):
        return 0, ""
    resumable = isinstance(saved, dict) and saved.get("url") == address and saved.get("version")
    return (size, str(saved["version"])) if resumable and size else (0, "")


def _save_version(part: Path, address: str, response: requests.Response | None) -> None:
    """Save the version of the file that ``part`` belongs to; None for a response that cannot be resumed."""
    headers = {} if response is None else response.headers
    version = headers.get("ETag", "")
    if version.startswith("W/") or not version:  # a weak ETag does not guarantee the same bytes
        version = headers.get("Last-Modified", "")
    write_bytes(_version_file(part), json.dumps({"url": address, "version": version}).encode())


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _description(error: Exception) -> str:
    if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError):
        return "the server did not answer in time"
    if isinstance(error, urllib3.exceptions.DecodeError):
        return "the body does not match its Content-Encoding"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "the connection was lost"
    return f"no connection ({type(error).__name__})"
