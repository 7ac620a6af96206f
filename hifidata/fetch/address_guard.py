"""Check which URLs may be requested and which addresses may be connected to.

It checks the text of a URL, the addresses of every DNS answer, and the address of every socket before it connects. The
last check always holds. It catches redirects, and names that resolve differently the second time. It also catches
spellings that only the C library reads as an address.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from yarl import URL

from hifidata.fetch.reasons import BAD_REDIRECT, BAD_SCHEME, BAD_URL, BLOCKED_ADDRESS, TLS_DOWNGRADE
from hifidata.fetch.result import FetchFailure
from hifidata.fetch.url import request_target, resolve_reference, split_before

Address = IPv4Address | IPv6Address

_MAX_URL_CHARS = 8192
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")  # real blogs have labels that start or end with a hyphen
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_CONTROL = re.compile(r"[\x00-\x20\x7f\\]")

_V4_NOT_PUBLIC = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # the host agent of a cloud, although formally public
    )
)  # fmt: skip
"""Source: IANA IPv4 special-purpose registry. ``is_global`` is not used: it changed between Python versions."""

_V6_PUBLIC = IPv6Network("2000::/3")
_V6_NOT_PUBLIC = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, benchmarking, ORCHID and other protocol assignments
        "2001:db8::/32", "3fff::/20",  # documentation
        "2002::/16",  # 6to4: carries any IPv4 address
    )
)  # fmt: skip
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class ParsedUrl:
    """A URL whose text passed the guard.

    Attributes:
        url: the client requests exactly this. Its path holds path and query as written; yarl would rewrite a query.
        host: lower case ASCII, without a trailing dot; the throttle counts by it.
    """

    url: URL
    host: str

    @property
    def origin(self) -> str:
        """Scheme, host and port; one robots.txt holds for them."""
        return f"{self.url.scheme}://{self.url.host_port_subcomponent}"


class BlockedAddressError(OSError):
    """An address is not allowed. It is an OSError, so connecting code treats it as a failed connection."""


def is_public(address: Address) -> bool:
    """Return whether an address belongs to the public internet.

    IPv6 forms that contain an IPv4 address are refused. The exception is the well-known prefix of NAT64, because
    networks without IPv4 need it; there the IPv4 address decides.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _V4_NOT_PUBLIC)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _V6_PUBLIC and not any(address in network for network in _V6_NOT_PUBLIC)


class Guard:
    """Check URLs and addresses.

    Args:
        allow_private: addresses and networks that are allowed although they are not public.
        open_web: whether public addresses are allowed.
    """

    def __init__(self, allow_private: tuple[str, ...] = (), *, open_web: bool = True) -> None:
        self._allowed = tuple(ip_network(text) for text in allow_private)
        self._open_web = open_web

    def check_url(self, text: str) -> ParsedUrl:
        """Parse and check a URL without any lookup.

        Raises:
            FetchFailure: ``bad_scheme``, ``bad_url``, or ``blocked_address`` if the host is an address.
        """
        url, target = _parse(text)
        if url.user is not None or url.password is not None:
            raise FetchFailure(BAD_URL, "the URL contains credentials; remove them")
        if not _is_web_port(url.port):
            raise FetchFailure(BAD_URL, f"port {url.port}: expected 80, 443 or 1024 to 65535")
        host = (url.raw_host or "").lower()
        if host.endswith("."):
            host = host[:-1]
        self._check_host(host)
        requested = URL.build(scheme=url.scheme, authority=url.raw_authority, path=target, encoded=True)
        return ParsedUrl(requested, host)

    def follow(self, current: ParsedUrl, location: str) -> ParsedUrl:
        """Check the target of a redirect.

        Raises:
            FetchFailure: as ``check_url``, with ``bad_redirect`` instead of ``bad_url``; also ``tls_downgrade``.
        """
        try:
            target = self.check_url(resolve_reference(str(current.url), location.strip()))
        except FetchFailure as failure:
            reason = BAD_REDIRECT if failure.reason is BAD_URL else failure.reason
            raise FetchFailure(reason, f"redirect: {failure.message}") from failure
        if current.url.scheme == "https" and target.url.scheme == "http":
            raise FetchFailure(TLS_DOWNGRADE, f"{current.host} redirects from https to http")
        return target

    def _check_host(self, host: str) -> None:
        labels = host.split(".")
        if ":" in host or _NUMBER.fullmatch(labels[-1]):
            self.check_address(host)
        elif len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
            raise FetchFailure(BAD_URL, f"host {host[:80]!a} is not a valid name")

    def check_address(self, text: str) -> None:
        """Check an address in its canonical spelling.

        Raises:
            FetchFailure: ``blocked_address``.
        """
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError as error:
            message = f"host {text[:80]!a} is a number but not an address in canonical spelling"
            raise FetchFailure(BLOCKED_ADDRESS, message) from error
        if "%" in text:
            raise FetchFailure(BLOCKED_ADDRESS, f"{text[:80]!a} names a network interface of this machine")
        if any(address in network for network in self._allowed):
            return
        if not is_public(address):
            message = f"{address} is not a public address; fetch.allow_private can allow it"
            raise FetchFailure(BLOCKED_ADDRESS, message)
        if not self._open_web:
            message = f"{address} is public and fetch.contact is empty; set it to crawl the open web"
            raise FetchFailure(BLOCKED_ADDRESS, message)

    def open_socket(self, addr_info: tuple[Any, ...]) -> socket.socket:
        """Create the socket of one connection attempt; ``addr_info`` is an item of ``socket.getaddrinfo``.

        Raises:
            BlockedAddressError: the address is not allowed.
        """
        family, kind, protocol, _, sockaddr = addr_info
        try:
            self.check_address(sockaddr[0])
        except FetchFailure as failure:
            raise BlockedAddressError(failure.message) from failure
        return socket.socket(family, kind, protocol)


def _parse(text: str) -> tuple[URL, str]:
    """Return the parsed origin of a URL and its request target.

    Blanks around the URL are removed. Blanks, control characters or backslashes in its authority are refused: an attack.
    """
    text = text.strip()
    scheme, colon, rest = text.partition(":")
    if not colon or len(text) > _MAX_URL_CHARS:
        raise FetchFailure(BAD_URL, f"expected an absolute URL of at most {_MAX_URL_CHARS} characters")
    if scheme.lower() not in ("http", "https"):
        raise FetchFailure(BAD_SCHEME, f"scheme {scheme[:20]!a}: only http and https are fetched")
    authority, rest_of_url = split_before(rest[2:], "/?#")
    if not rest.startswith("//") or _CONTROL.search(authority):
        raise FetchFailure(BAD_URL, "expected scheme://host/path without blanks or backslashes in the host")
    try:
        return _url(f"{scheme}://{authority}"), request_target(rest_of_url)
    except ValueError as error:
        raise FetchFailure(BAD_URL, f"not a URL: {ascii(str(error))[:200]}") from error


def _url(text: str) -> URL:
    """Parse a URL. Raises only ValueError."""
    try:
        url = URL(text)
        _ = url.host  # yarl decodes it here; a broken xn-- label must not raise inside the client
    except IndexError as error:  # yarl 1.25 on "http://@]"
        raise ValueError("misplaced brackets") from error
    return url


def _is_web_port(port: int | None) -> bool:
    """Refuse the other ports below 1024: they belong to mail, shells, name servers."""
    return port in (80, 443) or (port is not None and port >= 1024)
