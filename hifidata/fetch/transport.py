"""Send one request over aiohttp: no redirects, cookies, proxies or hidden retries."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace, TracebackType
from typing import Any

import aiohttp

from hifidata.core.reasons import Reason
from hifidata.fetch.address_guard import BlockedAddressError, Guard, ParsedUrl
from hifidata.fetch.config import FetcherConfig
from hifidata.fetch.reasons import (
    BAD_RESPONSE,
    BLOCKED_ADDRESS,
    CONNECT_ERROR,
    DNS_ERROR,
    INCOMPLETE_BODY,
    TIMEOUT,
    TLS_ERROR,
    UNKNOWN_HOST,
)
from hifidata.fetch.resolve import GuardedResolver, Lookup, LookupTimeout
from hifidata.fetch.response_head import MAX_HEAD_BYTES, TolerantConnector
from hifidata.fetch.result import FetchFailure, FetchTrace, ascii_line
from hifidata.fetch.throttle import Slot

_log = logging.getLogger(__name__)

_READ_BUFFER_BYTES = 256 * 1024
_FILES_PER_CONNECTION = 4  # open files per connection in use: idle connections, lookups, other files of the process


class _ConnectionLost(aiohttp.ClientError):
    """Replaces errors after which aiohttp would retry by itself and bypass the throttle."""


class Transport:
    """The connection pool.

    Args:
        settings: time limits, User-Agent.
        guard: checks every address before connecting.
        lookup: DNS lookup.
        ssl_context: other trust anchors than the system's; its checks apply unchanged.
    """

    def __init__(
        self, settings: FetcherConfig, guard: Guard, lookup: Lookup, ssl_context: ssl.SSLContext | None
    ) -> None:
        self._settings = settings
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_start.append(_note_connect_start)
        tracing.on_connection_create_end.append(_note_connect_end)
        self._session = aiohttp.ClientSession(
            connector=TolerantConnector(
                limit=0,  # the throttle limits connections
                resolver=GuardedResolver(lookup, guard, settings.dns_timeout_s),
                socket_factory=guard.open_socket,
                ssl=ssl_context or True,
                keepalive_timeout=settings.keepalive_s,
                ttl_dns_cache=60,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": settings.user_agent, "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=MAX_HEAD_BYTES,
            max_field_size=MAX_HEAD_BYTES,
            max_headers=MAX_HEAD_BYTES,  # TolerantConnector limits their bytes
            middlewares=(_prevent_retries,),
            trace_configs=[tracing],
        )

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    @asynccontextmanager
    async def get(
        self, url: ParsedUrl, headers: Mapping[str, str], trace: FetchTrace, slot: Slot
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Request one URL and yield the response before its body is read. Fills in ``trace`` and ``slot``.

        Raises:
            FetchFailure: any network error, here or while the body is read.
        """
        limits = self._settings
        timeout = aiohttp.ClientTimeout(
            total=max(trace.network_left_s, 0.001),
            connect=limits.dns_timeout_s + limits.connect_timeout_s,
            sock_connect=limits.connect_timeout_s,
            sock_read=limits.read_timeout_s,
        )
        began_s = time.monotonic()
        trace.http_status, trace.connect_s = None, 0.0
        try:
            with _translated(url.host, trace):
                async with self._session.get(
                    url.url, headers=headers, allow_redirects=False, timeout=timeout, trace_request_ctx=(trace, slot)
                ) as response:
                    trace.response_s = slot.response_s = time.monotonic() - began_s
                    trace.http_status, trace.final_url = response.status, str(url.url)
                    yield response
        finally:
            trace.network_left_s -= time.monotonic() - began_s


@contextmanager
def _translated(host: str, trace: FetchTrace) -> Iterator[None]:
    """Translate aiohttp's errors into FetchFailure. The order matters: most are subclasses of each other."""
    try:
        yield
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise FetchFailure(TLS_ERROR, f"{host}: {_one_line(error)}") from error
    except aiohttp.ClientConnectorError as error:
        raise FetchFailure(_reason_of(error.os_error), f"{host}: {_one_line(error.os_error)}") from error
    except asyncio.TimeoutError as error:
        what = "reading the body" if trace.http_status else "waiting for an answer"
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            what = "connecting"
        raise FetchFailure(TIMEOUT, f"{host}: gave up {what}") from error
    except aiohttp.ClientPayloadError as error:
        raise FetchFailure(INCOMPLETE_BODY, f"{host}: {_one_line(error)}") from error
    except (_ConnectionLost, aiohttp.ClientConnectionError, OSError) as error:
        lost = INCOMPLETE_BODY if trace.http_status else CONNECT_ERROR
        raise FetchFailure(lost, f"{host}: {_one_line(error)}") from error
    except aiohttp.ClientResponseError as error:
        # aiohttp reports broken chunks as a bad response if they arrive together with the headers.
        text = error.message.lower()
        reason = INCOMPLETE_BODY if "chunk" in text and "transfer-encoding" not in text else BAD_RESPONSE
        raise FetchFailure(reason, f"{host}: {_one_line(error)}", transient=True) from error
    except aiohttp.ClientError as error:
        raise FetchFailure(BAD_RESPONSE, f"{host}: {_one_line(error)}", transient=True) from error


def _reason_of(error: OSError) -> Reason:
    if isinstance(error, BlockedAddressError):
        return BLOCKED_ADDRESS
    if isinstance(error, LookupTimeout):
        return DNS_ERROR
    if isinstance(error, socket.gaierror):
        unknown = error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
        return UNKNOWN_HOST if unknown else DNS_ERROR
    return CONNECT_ERROR


def _one_line(error: BaseException) -> str:
    """Return an error as a short line without the URL."""
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return ascii_line(text) or type(error).__name__


async def _prevent_retries(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ConnectionLost(str(error) or "the server closed the connection") from error


async def _note_connect_start(_: aiohttp.ClientSession, context: SimpleNamespace, params: Any) -> None:
    context.began_s = time.monotonic()


async def _note_connect_end(_: aiohttp.ClientSession, context: SimpleNamespace, params: Any) -> None:
    trace, slot = context.trace_request_ctx
    trace.connect_s = time.monotonic() - context.began_s
    slot.note_sent()


def allowed_connections(wanted: int) -> int:
    """Return ``wanted`` or fewer, so that the process keeps enough open files for other uses."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = max(1, soft // _FILES_PER_CONNECTION) if soft != resource.RLIM_INFINITY else wanted
    if allowed < wanted:
        _log.warning("open files are limited to %d: using %d connections instead of %d", soft, allowed, wanted)
    return min(wanted, allowed)
