"""Client of an OpenAI-compatible chat server: limits on what it sends and accepts, and the check before a run."""

from __future__ import annotations

import asyncio
import difflib
import os
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from hifidata.core.errors import ServiceError, UsageError
from hifidata.core.retry import retry_after_s
from hifidata.core.schema import CaptionProblem
from hifidata.models.caption.cleaning import plain
from hifidata.models.config import CaptionServerConfig
from hifidata.models.requirements import OPENAI

try:
    import httpx2
    import openai
except ImportError as error:
    raise UsageError(f"caption.model openai: {error.name} is not installed; {OPENAI.remedy}") from error

MAX_ANSWER_BYTES = 2**20
"""The longest caption takes a few kilobytes."""

MAX_MESSAGE_CHARACTERS = 200
MAX_NAMED_MODELS = 3
MIN_SECRET_CHARACTERS = 8
"""Shorter keys are placeholders, such as ``EMPTY`` for a local server; their letters may occur in a caption."""

SENT_HEADERS = frozenset({"accept", "connection", "content-length", "content-type", "host", "user-agent"})
"""The package would add facts about this machine, and the account that OPENAI_* variables name for another service."""

MALFORMED = (ValueError, RecursionError, LookupError, TypeError, AttributeError)
"""Errors of reading an answer that has another form; the package does not validate it."""


@dataclass(eq=False)
class RequestFailed(openai.OpenAIError):
    """One request without an answer. Its base class lets the package pass it on from a transport.

    Attributes:
        problem: the caption's problem, where this was the last try.
        message: "it ..." for a sentence about the server.
        transient: whether another try may succeed.
        retry_after_s: pause that the server asks for.
    """

    problem: CaptionProblem
    message: str
    transient: bool = True
    retry_after_s: float | None = None


class LimitedTransport(httpx2.AsyncHTTPTransport):
    """Sends no other headers than ``SENT_HEADERS`` and ours, and reads at most ``MAX_ANSWER_BYTES`` of an answer."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(limits=httpx2.Limits())  # none: the caller limits its requests
        self._headers = {"accept-encoding": "identity", **headers}  # a compressed answer could grow without limit

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request and read its answer. Raises RequestFailed where the answer is too long."""
        headers = {name: value for name, value in request.headers.items() if name in SENT_HEADERS} | self._headers
        sent = httpx2.Request(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )
        body = bytearray()
        async with aclosing(await super().handle_async_request(sent)) as response:
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    message = f"its answer is longer than {MAX_ANSWER_BYTES} bytes"
                    raise RequestFailed(CaptionProblem.BAD_ANSWER, message, transient=False)
        response.headers.pop("content-encoding", None)
        return httpx2.Response(response.status_code, headers=response.headers, content=bytes(body))


class ChatServer:
    """A caption server and our key for it.

    Args:
        config: the recipe's ``caption.server``.
        environ: holds the key.

    Raises:
        UsageError: the key's environment variable is not set, or its value cannot be sent.
    """

    def __init__(self, config: CaptionServerConfig, environ: Mapping[str, str]) -> None:
        self.config = config
        self._key = environ.get(config.key_env, "").strip() if config.key_env else ""
        if config.key_env and not (self._key and self._key.isascii() and self._key.isprintable()):
            raise UsageError(
                f"caption.server.key_env: {config.key_env} is not set to a key in the environment; set it on every machine "
                "that writes captions, or set key_env to null for a server without keys"
            )

        secrets = {form for text in (self._key, *_texts(config.extra)) for form in (text, plain(text))}
        self._secrets = sorted(
            (text for text in secrets if len(text) >= MIN_SECRET_CHARACTERS and " " not in text), key=len, reverse=True
        )

    def client(self) -> openai.AsyncOpenAI:
        """Return a client for one event loop. It does not follow redirects, which would carry the key elsewhere, and does not retry.

        The package's own retries know neither the recipe's ``backoff_s`` nor a pause for all requests.
        """
        config = self.config
        transport = LimitedTransport({"authorization": f"Bearer {self._key}"} if self._key else {})
        return openai.AsyncOpenAI(
            api_key="set by the transport",
            base_url=config.base_url,
            max_retries=0,
            timeout=httpx2.Timeout(config.read_timeout_s, connect=config.connect_timeout_s, pool=None),
            http_client=httpx2.AsyncClient(transport=transport, follow_redirects=False, trust_env=False),
        )

    def redacted(self, text: str) -> str:
        """Return the text without our key and the texts of ``extra``, which a server may echo."""
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        return text

    def quoted(self, text: str) -> str:
        """Return the text as a part of a message: one short line without our key and control characters."""
        printable = "".join(char if char.isprintable() else " " for char in self.redacted(text))
        return " ".join(printable.split())[:MAX_MESSAGE_CHARACTERS]

    def error_of(self, error: openai.OpenAIError) -> RequestFailed | ServiceError:
        """Classify an error of the package; ServiceError where no other request can succeed."""
        if isinstance(error, RequestFailed):
            return error
        if isinstance(error, openai.APITimeoutError):
            return RequestFailed(CaptionProblem.TIMEOUT, "it was silent for too long")
        if not isinstance(error, openai.APIStatusError):
            return RequestFailed(CaptionProblem.SERVER_ERROR, f"the connection failed ({cause_of(error)})")
        status, complaint = error.status_code, self._complaint(error.body)
        if remedy := self._remedy(status):
            return ServiceError(f"caption.server {self.config.base_url}: {remedy}{complaint}")
        message = f"it answered {status}{complaint}"
        pause_s = retry_after_s(error.response.headers)
        if status == 429:
            return RequestFailed(CaptionProblem.RATE_LIMITED, message, retry_after_s=pause_s)
        if status == 408 or status >= 500:
            return RequestFailed(CaptionProblem.SERVER_ERROR, message, retry_after_s=pause_s)
        is_filter = any(word in error.response.content for word in (b"content_filter", b"content_policy"))
        return RequestFailed(CaptionProblem.REFUSED if is_filter else CaptionProblem.REJECTED, message, transient=False)

    def _remedy(self, status: int) -> str:
        if status in (401, 403):
            return f"refuses us ({status}); is the key in {self.config.key_env or 'caption.server.key_env (null now)'} right?"
        if status == 404:
            return f"has no model {self.config.model} at this address (404); correct caption.server.model or base_url"
        is_redirect, remedy = 300 <= status < 400, "which would carry the key elsewhere; set the final base_url"
        return f"redirects ({status}), {remedy}" if is_redirect else ""

    def _complaint(self, body: Any) -> str:
        """Return ``: the server's message`` on one line; "" without a message."""
        message = body.get("message") if isinstance(body, Mapping) else body
        text = self.quoted(message) if isinstance(message, str) else ""
        return f": {text}" if text else ""

    async def complete(self, client: openai.AsyncOpenAI, message: Any, options: Mapping[str, Any]) -> tuple[str, str]:
        """Ask for one chat completion; returns its text and finish reason (``content_filter`` for a refusal by field).

        Args:
            client: of ``client()``.
            message: of the user, as the API takes it.
            options: further keys of the request; one that is None is left out.

        Raises:
            RequestFailed: no usable answer.
            ServiceError: no other request can succeed.
        """
        options = {key: value for key, value in options.items() if value is not None}
        try:
            answer = await client.chat.completions.with_raw_response.create(
                model=self.config.model, messages=[message], extra_body=options
            )
        except openai.OpenAIError as error:
            raise self.error_of(error) from None
        try:
            choice = answer.parse().choices[0]
            content: Any = choice.message.content or ""
            if isinstance(content, list):  # some servers answer in parts
                content = "".join(part.get("text") or "" for part in content)
            if isinstance(content, str):
                return content, "content_filter" if choice.message.refusal else choice.finish_reason
        except MALFORMED:
            pass
        raise RequestFailed(CaptionProblem.BAD_ANSWER, "its answer is not a chat completion")

    async def models(self) -> list[str]:
        """Return the models that the server lists; empty where it lists none. Raises openai.OpenAIError."""
        async with self.client() as client:
            answer = await client.models.with_raw_response.list()
        try:
            return [str(model.id) for model in answer.parse().data]
        except MALFORMED:
            return []


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for inner in value.values() for text in _texts(inner))
    elif isinstance(value, list | tuple):
        yield from (text for inner in value for text in _texts(inner))


def cause_of(error: BaseException) -> str:
    """Return the class name of an error's cause; of the error itself if the cause is missing or a cancelled task."""
    return type(error.__cause__ if isinstance(error.__cause__, Exception) else error).__name__


def check_server(config: CaptionServerConfig, environ: Mapping[str, str] = os.environ) -> None:
    """Check that a server answers and serves our model; a server that does not list its models passes.

    Raises:
        UsageError: the key is not set.
        ServiceError: the server does not answer, refuses our key, or serves other models.
    """
    server = ChatServer(config, environ)
    try:
        served = asyncio.run(asyncio.wait_for(server.models(), 2 * config.connect_timeout_s))
    except (openai.APIConnectionError, asyncio.TimeoutError) as error:
        raise ServiceError(
            f"caption.server {config.base_url}: no answer ({cause_of(error)}); start the server or correct "
            "caption.server.base_url, then run the same command"
        ) from None
    except openai.OpenAIError as error:
        refusal = server.error_of(error)
        if isinstance(refusal, ServiceError) and not isinstance(error, openai.NotFoundError):
            raise refusal from None
        return
    if served and not any(name == config.model or name.partition(":")[0] == config.model for name in served):
        close = difflib.get_close_matches(config.model, served, n=1, cutoff=0.3)
        names = ", ".join(map(server.quoted, served[:MAX_NAMED_MODELS]))
        hint = f"did you mean {server.quoted(close[0])}?" if close else f"it serves {names} ({len(served)} in all)"
        raise ServiceError(f"caption.server {config.base_url}: does not serve the model {config.model}; {hint}")
