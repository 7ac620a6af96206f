"""Captions from an OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, or a hosted one.

The portrait goes out as a small JPEG without metadata, inside the request; nothing else about the picture does. A picture
that the server cannot answer loses its caption. A server that answers none stops the run; the same command resumes it.

Source: paper, section 3.4 (Yi-Vision and its prompt).
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hifidata.core.retry import backoff_s, full_jitter_s, spread_s
from hifidata.core.schema import SERVER_FAULTS, CaptionProblem
from hifidata.image.crop import reduced
from hifidata.image.encode import encode_jpeg
from hifidata.models.caption.chat_server import ChatServer, RequestFailed
from hifidata.models.caption.circuit_breaker import CircuitBreaker
from hifidata.models.caption.cleaning import description_of
from hifidata.models.config import CaptionerConfig
from hifidata.models.protocols import Description, RgbU8

if TYPE_CHECKING:
    from openai import AsyncOpenAI

JPEG_QUALITY = 90
BATCHES_AHEAD = 4
"""Size of a batch in units of ``concurrency``. A batch ends with its slowest image, so it should be long."""


class OpenAiCaptioner:
    """Asks for many captions at once; construct one per worker.

    Args:
        settings: the recipe's caption section.
        environ: holds the key.

    Raises:
        UsageError: the key's environment variable is not set, or the openai package is not installed.
    """

    def __init__(self, settings: CaptionerConfig, environ: Mapping[str, str] = os.environ) -> None:
        self.name = f"openai/{settings.server.model}"
        self.batch_size = BATCHES_AHEAD * settings.server.concurrency
        self._settings = settings
        self._server = ChatServer(settings.server, environ)
        self._breaker = CircuitBreaker(settings.server)
        self._not_before_s = float("-inf")

    def describe(self, portraits: Sequence[RgbU8]) -> list[Description]:
        """Return one description per portrait, in order.

        Args:
            portraits: (H, W, 3) uint8 sRGB each.

        Raises:
            ServiceError: the server refuses us, or the circuit breaker opens; no further request is sent then.
        """
        messages = [self._message(portrait) for portrait in portraits]
        with self._breaker:
            return asyncio.run(self._ask_all(messages))

    def _message(self, portrait: RgbU8) -> Any:
        jpeg = encode_jpeg(reduced(portrait, self._settings.image_px), JPEG_QUALITY)
        picture = {"url": f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"}
        text = {"type": "text", "text": self._settings.prompt_text}
        return {"role": "user", "content": [{"type": "image_url", "image_url": picture}, text]}

    async def _ask_all(self, messages: Sequence[Any]) -> list[Description]:
        slots = asyncio.Semaphore(self._settings.server.concurrency)
        async with self._server.client() as client:

            async def ask(message: Any) -> Description:
                async with slots:
                    return await self._ask(client, message)

            tasks = [asyncio.ensure_future(ask(message)) for message in messages]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()

    async def _ask(self, client: AsyncOpenAI, message: Any) -> Description:
        limit_s = self._settings.server.total_timeout_s
        complaint = ""
        try:
            description = await asyncio.wait_for(self._try(client, message), limit_s)
        except asyncio.TimeoutError:
            description, complaint = Description(None, CaptionProblem.TIMEOUT), f"no answer came within {limit_s:g} s"
        except RequestFailed as failed:
            description, complaint = Description(None, failed.problem), failed.message
        if description.problem in SERVER_FAULTS:
            self._breaker.record_failure(complaint)
        else:
            self._breaker.record_success()
        return description

    async def _try(self, client: AsyncOpenAI, message: Any) -> Description:
        server = self._settings.server
        attempt = 0
        while True:
            attempt += 1
            await asyncio.sleep(max(0.0, self._not_before_s - time.monotonic()))
            try:
                return await self._once(client, message)
            except RequestFailed as failed:
                wait_s = failed.retry_after_s
                if not failed.transient or attempt == server.tries or (wait_s or 0.0) > server.max_retry_after_s:
                    raise
            if wait_s is None:
                wait_s = full_jitter_s(backoff_s(server.backoff_s, attempt))
            else:  # it concerns every request, not this one alone
                self._not_before_s = max(self._not_before_s, time.monotonic() + wait_s)
            await asyncio.sleep(spread_s(wait_s))

    async def _once(self, client: AsyncOpenAI, message: Any) -> Description:
        settings, server = self._settings, self._settings.server
        options = {"max_tokens": settings.max_tokens, "temperature": server.temperature, "seed": server.seed}
        text, finish_reason = await self._server.complete(client, message, options | server.extra)
        if finish_reason == "content_filter":
            return Description(None, CaptionProblem.REFUSED)
        is_cut, prompt = finish_reason == "length", settings.prompt_text
        return description_of(text, is_cut, settings.max_characters, prompt, self._server.redacted)
