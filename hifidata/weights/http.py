"""One file from one address: resumed where it broke off, checked before it gets its name.

What has arrived lies beside the target as ``.<name>.part``, with ``.<name>.part.json`` saying which version of the file it
is (the server's ETag or Last-Modified), so that a later attempt, or a later command, goes on from there.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from hifidata.core.errors import WeightsError
from hifidata.core.files import write_bytes
from hifidata.core.retry import backoff_s, retry_after_s
from hifidata.weights.catalogue import FileState
from hifidata.weights.find import sha256_of
from hifidata.weights.sanity import problem_of

MIRROR_VARIABLE = "HIFI_WEIGHTS_MIRROR"
NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    urllib3.exceptions.LocationParseError,  # which requests lets through where it opens the connection
)
ELSEWHERE = f"try a mirror ({MIRROR_VARIABLE}), or bring the file by hand into a folder that HIFI_WEIGHTS names"
DECODED = ("gzip", "x-gzip", "deflate")
"""Content encodings that requests undoes, though we ask for none."""
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

OnBytes = Callable[[int, "int | None"], None]
"""Called with the bytes that have arrived and the total, None where the server does not say."""


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        timeout_s: for connecting, and between two pieces of a body.
        attempts: in a row that brought nothing new.
        pause_s: before the second attempt; doubled before each further one, at most ``max_pause_s``.
        chunk_bytes: written at once; what is less than that when a connection breaks has to come again.
    """

    timeout_s: float = 30.0
    attempts: int = 5
    pause_s: float = 1.0
    max_pause_s: float = 60.0
    chunk_bytes: int = 1 << 14


class _TryAgainError(Exception):
    """The attempt failed in a way that another one may mend."""

    def __init__(self, why: str, pause_s: float = 0.0) -> None:
        super().__init__(why)
        self.pause_s = pause_s


def mirrored(url: str) -> str:
    """The address to ask instead: ``HIFI_WEIGHTS_MIRROR`` is a comma-separated list, the first item that fits counts.

    ``https://mirror/prefix`` takes every file as ``https://mirror/prefix/<host>/<path>``;
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


def fetch(url: str, target: Path, expected: FileState | None, patience: Patience, on_bytes: OnBytes) -> FileState:
    """Downloads a file that appears under its name only when it is whole and right.

    Args:
        url: its published address; ``HIFI_WEIGHTS_MIRROR`` may send the request elsewhere.
        target: where it shall lie.
        expected: what it must be; None where nobody knows.
        patience: time-outs and attempts.
        on_bytes: progress.

    Returns:
        What it is.

    Raises:
        WeightsError: it cannot be had, or is not what it must be: its suffix says what, where nobody knows its hash. One line.
    """
    part = target.with_name(f".{target.name}.part")
    _require_places(target, part)
    address = mirrored(url)
    was_resumed = _download(address, part, expected, patience, on_bytes)
    state = FileState(part.stat().st_size, sha256_of(part))
    if expected and was_resumed and state.sha256 != expected.sha256:
        _discard(part)  # pieces of two versions, perhaps: once more, from the start
        _download(address, part, expected, patience, on_bytes)
        state = FileState(part.stat().st_size, sha256_of(part))
    if expected and state.sha256 != expected.sha256:
        _discard(part)
        raise WeightsError(
            f"{address}: has sha256 {state.sha256}, expected {expected.sha256}; the file there was changed or is damaged, "
            f"nothing was kept: try another mirror ({MIRROR_VARIABLE}) or bring the right file by hand"
        )
    if expected is None and (problem := problem_of(part, target.suffix)):
        _discard(part)
        raise WeightsError(f"{address}: what came {problem}; nothing was kept: {ELSEWHERE}")
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    _discard(part)
    return state


def _require_places(target: Path, part: Path) -> None:
    """Raises WeightsError where something else lies where the file, or what precedes it, is to be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise WeightsError(
            f"{target.parent}: is a file, expected a folder; remove it, then run the same command"
        ) from None
    for path in (target, part, _note(part)):
        if path.is_dir():
            raise WeightsError(f"{path}: is a folder, expected a file; remove it, then run the same command")


def _download(address: str, part: Path, expected: FileState | None, patience: Patience, on_bytes: OnBytes) -> bool:
    """Fills ``part``; returns whether it was put together from several answers."""
    was_resumed, failures = False, 0
    most = part.stat().st_size if part.exists() else 0
    while True:
        try:
            resumed = _attempt(address, part, expected, patience, on_bytes)
        except _TryAgainError as error:
            after = part.stat().st_size if part.exists() else 0
            was_resumed = was_resumed or after > 0
            failures = 1 if after > most else failures + 1
            most = max(most, after)
            if failures >= patience.attempts:
                kept = (
                    f"; {after} bytes are kept, the same command goes on from there" if after else "; try again later"
                )
                raise WeightsError(f"{address}: {error}, {failures} times in a row{kept}") from None
            time.sleep(min(max(backoff_s(patience.pause_s, failures), error.pause_s), patience.max_pause_s))
        else:
            return was_resumed or resumed


def _attempt(address: str, part: Path, expected: FileState | None, patience: Patience, on_bytes: OnBytes) -> bool:
    """One request; returns whether it continued an earlier one. Raises _TryAgainError or WeightsError."""
    offset, validator = _resume_point(part, address)
    headers = {"Accept-Encoding": "identity", "User-Agent": "hifidata"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    try:
        with requests.get(address, headers=headers, stream=True, timeout=patience.timeout_s) as answer:
            _refuse(answer, address, part)
            if expected is None:
                _refuse_page(answer, address)
            is_plain = _is_plain(answer, address, part)
            resumes = answer.status_code == 206 and _starts_at(answer, offset)
            offset = offset if resumes else 0
            total = _total(answer, offset) if is_plain else None
            if expected and total and expected.n_bytes not in (None, total):
                _discard(part)
                raise WeightsError(
                    f"{address}: has {total} bytes, expected {expected.n_bytes}; the file there is another one: try another "
                    f"mirror ({MIRROR_VARIABLE}) or bring the right file by hand"
                )
            _require_room(part, (total or 0) - offset)
            _note_version(part, address, answer if is_plain else None)
            _write_body(answer, part, offset, total, patience, on_bytes)
    except NO_ADDRESS as error:
        raise WeightsError(f"{address}: not an address ({error}); check {MIRROR_VARIABLE}") from error
    except requests.exceptions.TooManyRedirects as error:
        raise WeightsError(f"{address}: redirects without end ({error}); {ELSEWHERE}") from error
    except requests.exceptions.RequestException as error:
        raise _TryAgainError(_why(error)) from error
    return resumes


def _write_body(
    answer: requests.Response, part: Path, offset: int, total: int | None, patience: Patience, on_bytes: OnBytes
) -> None:
    with open(part, "r+b" if offset else "wb") as file:
        file.seek(offset)
        file.truncate()
        n_bytes = offset
        on_bytes(n_bytes, total)
        for chunk in answer.iter_content(patience.chunk_bytes):
            file.write(chunk)
            n_bytes += len(chunk)
            on_bytes(n_bytes, total)
        file.flush()
    if total is not None and n_bytes != total:
        raise _TryAgainError(f"the connection ended after {n_bytes} of {total} bytes")


def _refuse(answer: requests.Response, address: str, part: Path) -> None:
    """Raises where the answer is not (a part of) the file."""
    status = answer.status_code
    if status in (200, 206):
        return
    if status == 416:  # what we hold is not a beginning of what lies there
        _discard(part)
        raise _TryAgainError("the server refused to resume")
    if status in RETRIED_STATUSES:
        raise _TryAgainError(f"the server answered {status} {answer.reason}", retry_after_s(answer.headers) or 0.0)
    raise WeightsError(f"{address}: the server answered {status} {answer.reason}; {ELSEWHERE}")


def _refuse_page(answer: requests.Response, address: str) -> None:
    """Raises where a page for people comes instead of a file; where the hash is known, that decides."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        raise WeightsError(f"{address}: the server sent a web page (text/html), perhaps to log in; {ELSEWHERE}")


def _is_plain(answer: requests.Response, address: str, part: Path) -> bool:
    """Whether the body is the file as it is; encoded, its length is not the file's, and it cannot be resumed.

    Raises:
        WeightsError: in an encoding that nobody here undoes.
        _TryAgainError: a piece from the middle of an encoded body.
    """
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return True
    if encoding not in DECODED:
        raise WeightsError(
            f"{address}: the server sent it with Content-Encoding {encoding}, though asked for none; {ELSEWHERE}"
        )
    if answer.status_code == 206:
        _discard(part)
        raise _TryAgainError(f"the server resumed in Content-Encoding {encoding}")
    return False


def _require_room(part: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if n_bytes > free:
        raise WeightsError(
            f"{part.parent}: {n_bytes} bytes are to come, {free} are free; make room, or set HIFI_WEIGHTS_CACHE to a folder "
            "on a larger disk"
        )


def _starts_at(answer: requests.Response, offset: int) -> bool:
    """Whether a 206 continues at the asked byte; else what it brings cannot be put anywhere."""
    if not answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
        raise _TryAgainError("the server resumed at another byte than asked")
    return True


def _total(answer: requests.Response, offset: int) -> int | None:
    """Size of the whole file, where the server says it."""
    whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if answer.status_code == 206 and whole.isdigit():
        return int(whole)
    length = answer.headers.get("Content-Length", "")
    return offset + int(length) if length.isdigit() else None


def _resume_point(part: Path, address: str) -> tuple[int, str]:
    """From which byte on to ask, and for which version; (0, "") where nothing can be resumed safely."""
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
        size = part.stat().st_size
    except (OSError, ValueError):
        return 0, ""
    resumable = isinstance(note, dict) and note.get("url") == address and note.get("version")
    return (size, str(note["version"])) if resumable and size else (0, "")


def _note_version(part: Path, address: str, answer: requests.Response | None) -> None:
    """Which version ``part`` is a beginning of; None where what comes cannot be resumed."""
    headers = {} if answer is None else answer.headers
    version = headers.get("ETag", "")
    if version.startswith("W/") or not version:  # a weak tag does not promise the same bytes
        version = headers.get("Last-Modified", "")
    write_bytes(_note(part), json.dumps({"url": address, "version": version}).encode())


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _why(error: requests.exceptions.RequestException) -> str:
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error):  # in a body, requests wraps it
        return "the server did not answer in time"
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return "the body is not what its Content-Encoding says"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return f"no connection ({type(error).__name__})"
