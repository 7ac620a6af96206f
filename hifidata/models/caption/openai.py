"""Captions from an OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, or a hosted one.

The portrait goes out as a small JPEG without metadata, inside the request; nothing else about the picture does. One picture
that the server cannot answer costs that picture its caption; a server that answers none stops the run, which the same
command takes up again.

Source: paper, section 3.4 (Yi-Vision and its prompt).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from hifidata.core.errors import ServiceError
from hifidata.core.retry import retry_after_s
from hifidata.core.schema import SERVER_FAULTS, CaptionProblem
from hifidata.image.crop import reduced
from hifidata.image.encode import encode_jpeg
from hifidata.models.caption.chat_server import (
    Failed,
    Patience,
    complaint_of,
    headers_of,
    permanent,
    read_answer,
    read_body,
)
from hifidata.models.caption.cleaning import description_of
from hifidata.models.config import CaptionerConfig
from hifidata.models.protocols import Description, RgbU8

JPEG_QUALITY = 90
BATCHES_AHEAD = 4
"""Portraits handed over at once, over ``concurrency``: a batch ends with its slowest picture, so it should be long."""


class OpenAiCaptioner:
    """Asks for many captions at once; construct one per worker.

    Args:
        settings: the recipe's caption section.
        environ: where the key is read from.

    Raises:
        UsageError: the key's environment variable is not set.
    """

    def __init__(self, settings: CaptionerConfig, environ: Mapping[str, str] = os.environ) -> None:
        server = settings.server
        self.name = f"openai/{server.model}"
        self.batch_size = BATCHES_AHEAD * server.concurrency
        self._settings = settings
        self._headers = headers_of(server, environ)
        self._patience = Patience(server)
        self._not_before_s = float("-inf")

    def describe(self, portraits: Sequence[RgbU8]) -> list[Description]:
        """One description per portrait, in order.

        Args:
            portraits: (H, W, 3) uint8 sRGB each.

        Raises:
            ServiceError: the server refuses us, or fails for longer than we bear; nothing more is asked of it then.
        """
        requests = [self._request(portrait) for portrait in portraits]
        with self._patience:
            return asyncio.run(self._ask_all(requests))

    def _request(self, portrait: RgbU8) -> bytes:
        settings, server = self._settings, self._settings.server
        jpeg = encode_jpeg(reduced(portrait, settings.image_px), JPEG_QUALITY)
        picture = {"url": f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"}
        content = [{"type": "image_url", "image_url": picture}, {"type": "text", "text": settings.prompt_text}]
        body: dict[str, Any] = {
            "model": server.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": settings.max_tokens,
            "temperature": server.temperature,
            "seed": server.seed,
            **server.extra,
        }
        return json.dumps({key: value for key, value in body.items() if value is not None}).encode()

    async def _ask_all(self, requests: Sequence[bytes]) -> list[Description]:
        server = self._settings.server
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=server.connect_timeout_s, sock_read=server.read_timeout_s
        )
        places = asyncio.Semaphore(server.concurrency)
        connector = aiohttp.TCPConnector(limit=server.concurrency)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=self._headers, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:

            async def ask(request: bytes) -> Description:
                async with places:
                    return await self._ask(session, request)

            asking = [asyncio.ensure_future(ask(request)) for request in requests]
            try:
                return list(await asyncio.gather(*asking))
            finally:
                for request in asking:
                    request.cancel()

    async def _ask(self, session: aiohttp.ClientSession, request: bytes) -> Description:
        limit_s = self._settings.server.total_timeout_s
        complaint = ""
        try:
            description = await asyncio.wait_for(self._try(session, request), limit_s)
        except asyncio.TimeoutError:
            description, complaint = Description(None, CaptionProblem.TIMEOUT), f"no answer came within {limit_s:g} s"
        except Failed as failed:
            description, complaint = Description(None, failed.problem), failed.message
        if description.problem in SERVER_FAULTS:
            self._patience.lose(complaint)
        else:
            self._patience.regain()
        return description

    async def _try(self, session: aiohttp.ClientSession, request: bytes) -> Description:
        server = self._settings.server
        attempt = 0
        while True:
            attempt += 1
            await asyncio.sleep(max(0.0, self._not_before_s - time.monotonic()))
            try:
                return await self._once(session, request)
            except Failed as failed:
                wait_s = failed.retry_after_s
                if not failed.transient or attempt == server.tries or (wait_s or 0.0) > server.max_retry_after_s:
                    raise
                if wait_s is None:
                    wait_s = random.uniform(0, server.backoff_s * 2 ** (attempt - 1))
                else:  # it concerns every request, not this one alone
                    self._not_before_s = max(self._not_before_s, time.monotonic() + wait_s)
                await asyncio.sleep(wait_s * random.uniform(1.0, 1.1))

    async def _once(self, session: aiohttp.ClientSession, request: bytes) -> Description:
        url = f"{self._settings.server.base_url}/chat/completions"
        try:
            async with session.post(
                url, data=request, headers={"Content-Type": "application/json"}, allow_redirects=False
            ) as response:
                body = await read_body(response)
                status, pause_s = response.status, retry_after_s(response.headers)
        except asyncio.TimeoutError:
            raise Failed(CaptionProblem.TIMEOUT, "it was silent for too long") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Failed(CaptionProblem.SERVER_ERROR, f"the connection failed ({type(error).__name__})") from None
        if status != 200:
            raise self._refusal(status, body, pause_s)
        answer, finish = read_answer(body)
        if finish == "content_filter":
            return Description(None, CaptionProblem.REFUSED)
        return description_of(answer, finish == "length", self._settings.max_characters, self._settings.prompt_text)

    def _refusal(self, status: int, body: bytes, pause_s: float | None) -> Exception:
        server, complaint = self._settings.server, complaint_of(body, self._headers)
        if status in (401, 403, 404) or 300 <= status < 400:
            return ServiceError(f"caption.server {server.base_url}: {permanent(status, server)}{complaint}")
        message = f"it answered {status}{complaint}"
        if status == 429:
            return Failed(CaptionProblem.RATE_LIMITED, message, retry_after_s=pause_s)
        if status == 408 or status >= 500:
            return Failed(CaptionProblem.SERVER_ERROR, message, retry_after_s=pause_s)
        filtered = b"content_filter" in body or b"content_policy" in body
        return Failed(CaptionProblem.REFUSED if filtered else CaptionProblem.REJECTED, message, transient=False)
