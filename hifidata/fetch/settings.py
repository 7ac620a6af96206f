"""What a recipe says about fetching."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_network

from hifidata.errors import RecipeError

_CONTACT = re.compile(r"(https?://[^\s()<>]+\.[^\s()<>]+|[^\s()<>@:/]+@[^\s()<>@:/]+\.[^\s()<>@:/]+)", re.ASCII)
_AGENT_NAME = re.compile(r"[A-Za-z][A-Za-z_-]*")  # RFC 9309 2.2.1: what a robots.txt can name


@dataclass(frozen=True)
class FetchSettings:
    """How to fetch. The defaults suit the open web; tests and the demo loosen them for loopback.

    Attributes:
        contact: mail address or URL of whoever answers for this crawl; site owners see it in the User-Agent. May be
            empty only where ``allow_private`` is set, and then no public address is reached at all.
        user_agent_name: product token, also the name that robots.txt and X-Robots-Tag may use for us; letters, - and _.
        max_connections: open at once, over all hosts. Lowered where the process may not open enough files.
        connections_per_host: open at once to one host.
        delay_s: least time between the starts of two requests to one host; a longer crawl-delay of its robots.txt wins.
        slowdown: that time is also at least so many times the host's last response time (at most 10 s); 0 is off.
        dns_timeout_s: for looking up a name.
        connect_timeout_s: for one connection, TLS included.
        read_timeout_s: between two pieces of an answer.
        total_timeout_s: network time of one URL over all its tries and redirects; waiting for its turn does not count.
        keepalive_s: how long an idle connection is kept.
        max_bytes: of the body as received, and again of the decoded body; more is refused, never cut. In the worst case
            every connection holds this much memory twice.
        max_redirects: hops after the first URL.
        tries: for transient errors, the first one included.
        backoff_s: waits between tries are random in 0 to this, doubled with every try.
        max_retry_after_s: the longest wait that a server's Retry-After gets.
        max_crawl_delay_s: a robots.txt that asks for more than this is honoured by staying away.
        max_host_errors: a host is stopped after so many errors in a row ...
        host_stop_s: ... and for so long.
        obey_robots: ask every origin's robots.txt first (RFC 9309); unreachable means no.
        respect_opt_out: leave pictures whose headers opt out (X-Robots-Tag, tdm-reservation).
        opt_out_directives: of X-Robots-Tag.
        allow_private: addresses or networks in CIDR form that may be reached although they are not public.
        placeholder_sha256: hex sha256, lower case, of pictures that sites serve in place of removed ones.
    """

    contact: str = ""
    user_agent_name: str = "hifidata"
    max_connections: int = 256
    connections_per_host: int = 1
    delay_s: float = 1.0
    slowdown: float = 2.0
    dns_timeout_s: float = 5.0
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 10.0
    total_timeout_s: float = 30.0
    keepalive_s: float = 2.0
    max_bytes: int = 32 * 1024 * 1024
    max_redirects: int = 5
    tries: int = 3
    backoff_s: float = 1.0
    max_retry_after_s: float = 300.0
    max_crawl_delay_s: float = 30.0
    max_host_errors: int = 5
    host_stop_s: float = 3600.0
    obey_robots: bool = True
    respect_opt_out: bool = True
    opt_out_directives: tuple[str, ...] = ("noai", "noimageai", "noindex", "noimageindex", "none")
    allow_private: tuple[str, ...] = ()
    placeholder_sha256: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Raises RecipeError where a value makes no sense."""
        if not self.contact and not self.allow_private:
            raise RecipeError(
                "fetch.contact: missing; site owners must be able to reach you: set a mail address or a URL "
                "(only a crawl of fetch.allow_private addresses can do without)"
            )
        if self.contact and not (
            self.contact.isascii() and self.contact.isprintable() and _CONTACT.fullmatch(self.contact)
        ):
            raise RecipeError(f"fetch.contact: got {self.contact!r}, expected one mail address or one http(s) URL")
        if not _AGENT_NAME.fullmatch(self.user_agent_name):
            raise RecipeError(
                f"fetch.user_agent_name: got {self.user_agent_name!r}, expected letters, '-' and '_' only"
            )
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise RecipeError(f"fetch.{name}: got {getattr(self, name)}, expected at least 1")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise RecipeError(f"fetch.{name}: got {getattr(self, name)}, expected more than 0")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise RecipeError(f"fetch.{name}: got {getattr(self, name)}, expected 0 or more")
        for network in self.allow_private:
            try:
                ip_network(network)
            except ValueError as error:
                raise RecipeError(
                    f"fetch.allow_private: {error}; expected an address or a network in CIDR form"
                ) from error

    @property
    def user_agent(self) -> str:
        """The User-Agent header, for instance ``hifidata/0.1.0 (+mailto:crawl@example.org)``."""
        link = f"mailto:{self.contact}" if "@" in self.contact and "//" not in self.contact else self.contact
        product = f"{self.user_agent_name}/{_package_version()}"
        return f"{product} (+{link})" if link else product


_AT_LEAST_ONE = ("max_connections", "connections_per_host", "max_bytes", "tries", "max_host_errors")
_POSITIVE = ("dns_timeout_s", "connect_timeout_s", "read_timeout_s", "total_timeout_s", "keepalive_s")
_NOT_NEGATIVE = (
    "delay_s", "slowdown", "max_redirects", "backoff_s", "max_retry_after_s", "max_crawl_delay_s", "host_stop_s",
)  # fmt: skip


def _package_version() -> str:
    try:
        return version("hifi-portrait")
    except PackageNotFoundError:
        return "0"
