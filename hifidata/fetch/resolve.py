"""Names to addresses: bounded in time, off the event loop, and every answer judged."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

from hifidata.fetch.address_guard import BlockedAddressError, Guard
from hifidata.fetch.result import FetchFailure

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""Addresses of a name, as text. Raises ``socket.gaierror`` where there are none."""

_THREADS = 64  # a lookup that hangs holds one until the C library gives up, which may take half a minute


class LookupTimeout(OSError):
    """The name servers did not answer in time."""


class SystemLookup:
    """``getaddrinfo`` in threads of its own, so that hanging name servers starve nobody else's work."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="hifidata-dns")

    async def __call__(self, host: str) -> Sequence[str]:
        """IPv4 and IPv6 addresses in the order that the system prefers."""
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _addresses, host)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Waits for nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _addresses(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(sockaddr[0]) for *_, sockaddr in found]


class GuardedResolver(AbstractResolver):
    """The connector's resolver. The addresses it returns are the ones connected to; nothing is looked up twice.

    One address that is not allowed condemns the whole answer: an honest name has no reason to mix.
    """

    def __init__(self, lookup: Lookup, guard: Guard, timeout_s: float) -> None:
        self._lookup = lookup
        self._guard = guard
        self._timeout_s = timeout_s

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError: ``BlockedAddressError``, ``LookupTimeout`` or ``socket.gaierror``."""
        try:
            addresses = await asyncio.wait_for(self._lookup(host), self._timeout_s)
        except asyncio.TimeoutError as error:
            raise LookupTimeout(f"no answer from the name servers in {self._timeout_s:g} s") from error
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        for address in addresses:
            try:
                self._guard.check_address(address)
            except FetchFailure as failure:
                raise BlockedAddressError(f"{host} resolves to {failure.message}") from failure
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing to close; whoever made the lookup closes it."""
