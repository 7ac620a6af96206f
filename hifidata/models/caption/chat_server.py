"""What an OpenAI-compatible server says, read with suspicion; and whether it is there at all."""

from __future__ import annotations

import asyncio
import difflib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from hifidata.core.errors import ServiceError, UsageError
from hifidata.core.schema import CaptionProblem
from hifidata.models.config import CaptionServerConfig

MAX_ANSWER_BYTES = 2**20
"""An answer of the longest caption has a few kilobytes."""

MAX_COMPLAINT = 200
MAX_NAMED = 3


@dataclass(eq=False)
class Failed(Exception):
    """One try that brought no answer.

    Attributes:
        problem: what the caption will be marked with, if it was the last try.
        message: "it ..." for a sentence about the server.
        transient: whether another try may have more luck.
        retry_after_s: how long the server asks us to wait.
    """

    problem: CaptionProblem
    message: str
    transient: bool = True
    retry_after_s: float | None = None


class Patience:
    """How long a server that fails is borne with; a block around every time that it is asked.

    It ends after ``max_errors`` portraits in a row, or once ``total_timeout_s`` were spent on two or more in a row: a server
    that is silent must not cost that time once for every picture.
    """

    def __init__(self, server: CaptionServerConfig) -> None:
        self._server = server
        self._in_row = 0
        self._spent_s = 0.0
        self._since_s = 0.0

    def __enter__(self) -> None:
        self._since_s = time.monotonic() - self._spent_s  # the time between two blocks is not the server's

    def __exit__(self, *_: object) -> None:
        self._spent_s = time.monotonic() - self._since_s if self._in_row else 0.0

    def regain(self) -> None:
        """It has answered."""
        self._in_row, self._since_s = 0, time.monotonic()

    def lose(self, complaint: str) -> None:
        """It has failed on a portrait. Raises ServiceError, with the complaint, where that was one too many."""
        self._in_row += 1
        spent_s = time.monotonic() - self._since_s
        is_silent = self._in_row > 1 and spent_s >= self._server.total_timeout_s
        if self._in_row >= self._server.max_errors or is_silent:
            raise ServiceError(
                f"caption.server {self._server.base_url}: failed on {self._in_row} portraits in a row, the last time because "
                f"{complaint}; mend it and run the same command, which goes on from here"
            )


def read_answer(body: bytes) -> tuple[str, str]:
    """The model's words and why they ended; ``content_filter`` also where the model refuses in the field made for it.

    Raises:
        Failed: no answer of that form.
    """
    try:
        choice = json.loads(body)["choices"][0]
        message, finish = choice["message"], str(choice.get("finish_reason") or "stop")
        content = message.get("content") or ""
        if isinstance(content, list):  # some servers answer in parts
            content = "".join(part.get("text") or "" for part in content)
        if message.get("refusal"):
            return "", "content_filter"
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        raise Failed(CaptionProblem.BAD_ANSWER, "its answer is no chat completion") from None
    if not isinstance(content, str):
        raise Failed(CaptionProblem.BAD_ANSWER, "its answer holds no text")
    return content, finish


def headers_of(server: CaptionServerConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """What identifies us. Raises UsageError where the key's variable is not set, or cannot be sent."""
    if server.key_env is None:
        return {}
    key = environ.get(server.key_env, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise UsageError(
            f"caption.server.key_env: {server.key_env} is not set to a key in the environment; set it on every machine that "
            "writes captions, or set key_env to null for a server that asks for none"
        )
    return {"Authorization": f"Bearer {key}"}


def check_server(server: CaptionServerConfig, environ: Mapping[str, str] = os.environ) -> None:
    """Asks a server what it serves; silent where it serves our model, or does not say.

    Raises:
        UsageError: the key is not set.
        ServiceError: nobody answers there, our key is refused, or another model is served.
    """
    headers = headers_of(server, environ)
    try:
        status, body = asyncio.run(_get(f"{server.base_url}/models", server.connect_timeout_s, headers))
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
        raise ServiceError(
            f"caption.server {server.base_url}: nobody answers there ({type(error).__name__}); start the server or mend "
            "caption.server.base_url, and run the same command again"
        ) from None
    if status in (401, 403) or 300 <= status < 400:
        raise ServiceError(
            f"caption.server {server.base_url}: {permanent(status, server)}{complaint_of(body, headers)}"
        )
    served = _served(body) if status == 200 else []
    if served and not any(name == server.model or name.partition(":")[0] == server.model for name in served):
        close = difflib.get_close_matches(server.model, served, n=1, cutoff=0.3)
        hint = f"did you mean {close[0]}?" if close else f"it serves {_named(served)}"
        raise ServiceError(f"caption.server {server.base_url}: does not serve the model {server.model}; {hint}")


async def _get(url: str, timeout_s: float, headers: Mapping[str, str]) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2 * timeout_s), headers=headers) as session,
        session.get(url, allow_redirects=False) as response,
    ):
        try:
            return response.status, await read_body(response)
        except Failed:  # a very long list of models
            return response.status, b""


async def read_body(response: aiohttp.ClientResponse) -> bytes:
    """The body, up to a limit. Raises Failed where it is longer."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise Failed(CaptionProblem.BAD_ANSWER, f"its answer is longer than {MAX_ANSWER_BYTES} bytes", False)
    return bytes(body)


def _named(models: Sequence[str]) -> str:
    """The first few of a server's models, and how many more there are."""
    more = f" and {len(models) - MAX_NAMED} more" if len(models) > MAX_NAMED else ""
    return ", ".join(model[:MAX_COMPLAINT] for model in models[:MAX_NAMED]) + more


def _served(body: bytes) -> list[str]:
    try:
        return [str(model["id"]) for model in json.loads(body)["data"]]
    except (ValueError, RecursionError, KeyError, TypeError):
        return []


def permanent(status: int, server: CaptionServerConfig) -> str:
    """What a status says that no other request will change, and what to do about it."""
    if status in (401, 403):
        return f"refuses us ({status}); is the key in {server.key_env or 'caption.server.key_env (null now)'} right?"
    if status == 404:
        return f"knows no model {server.model} at this address (404); mend caption.server.model or base_url"
    return f"answered with a redirect ({status}), which would carry the key elsewhere; name the final base_url"


def complaint_of(body: bytes, headers: Mapping[str, str]) -> str:
    """``: what the server says was wrong``, on one line without our key; "" where it says nothing."""
    try:
        error = json.loads(body).get("error")
        message = error.get("message") if isinstance(error, dict) else error
    except (ValueError, RecursionError, AttributeError):
        return ""
    if not isinstance(message, str):
        return ""
    for secret in headers.values():
        message = message.replace(secret.removeprefix("Bearer "), "***")
    return f": {' '.join(message.split())[:MAX_COMPLAINT]}"
