"""Resolve host names: with a time limit, in threads, and with a check of every answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

from hifidata.fetch.address_guard import BlockedAddressError, Guard
from hifidata.fetch.result import FetchFailure

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""Returns the addresses of a name, as text. Raises ``socket.gaierror`` if there are none."""

_THREADS = 64  # a hanging lookup blocks one until the C library gives up, up to half a minute


class LookupTimeout(OSError):
    """The name servers did not answer within the time limit."""


class SystemLookup:
    """Call ``getaddrinfo`` in separate threads, so hanging name servers do not block other work."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="hifidata-dns")

    async def __call__(self, host: str) -> Sequence[str]:
        """Return IPv4 and IPv6 addresses in the system's order of preference."""
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _addresses, host)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Stop the threads without waiting for pending lookups."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _addresses(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(sockaddr[0]) for *_, sockaddr in found]


class GuardedResolver(AbstractResolver):
    """Resolve names for the connector, which connects to exactly these addresses.

    One address that is not allowed blocks the whole answer: a legitimate name does not mix both kinds.
    """

    def __init__(self, lookup: Lookup, guard: Guard, timeout_s: float) -> None:
        self._lookup = lookup
        self._guard = guard
        self._timeout_s = timeout_s

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name. Raises ``BlockedAddressError``, ``LookupTimeout`` or ``socket.gaierror``."""
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
        """Do nothing: the lookup belongs to its creator."""
