"""What a recipe says about fetching."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_network

from pydantic import Field, field_validator

from hifidata.core.base_config import BaseConfig
from hifidata.core.errors import RecipeError

_CONTACT = re.compile(r"(https?://[^\s()<>]+\.[^\s()<>]+|[^\s()<>@:/]+@[^\s()<>@:/]+\.[^\s()<>@:/]+)", re.ASCII)


class FetcherConfig(BaseConfig):
    """How to fetch. The defaults suit the open web; tests and the demo loosen them for loopback."""

    contact: str = Field(
        "",
        description="mail address or URL of whoever answers for this crawl; site owners see it in the User-Agent. "
        "Without one no public address is reached",
    )
    user_agent_name: str = Field(
        "hifidata",
        pattern=r"^[A-Za-z][A-Za-z_-]*$",  # RFC 9309 2.2.1: what a robots.txt can name
        description="product token, also the name that robots.txt and X-Robots-Tag may use for us",
    )
    max_connections: int = Field(256, ge=1, description="open at once; lowered where too few files may be open")
    connections_per_host: int = Field(1, ge=1, description="open at once to one host")
    delay_s: float = Field(
        1.0, ge=0, description="least time between requests to one host; a longer crawl-delay of its robots.txt wins"
    )
    slowdown: float = Field(
        2.0, ge=0, description="and at least so many times the host's last response time, up to 10 s; 0 is off"
    )
    dns_timeout_s: float = Field(5.0, gt=0, description="for looking up a name")
    connect_timeout_s: float = Field(5.0, gt=0, description="for one connection, TLS included")
    read_timeout_s: float = Field(10.0, gt=0, description="between two pieces of an answer")
    total_timeout_s: float = Field(
        30.0, gt=0, description="network time of one URL over tries and redirects; waiting for its turn does not count"
    )
    keepalive_s: float = Field(2.0, gt=0, description="how long an idle connection is kept")
    max_bytes: int = Field(
        32 * 2**20, ge=1, description="of a body as received, and again decoded; more is refused, never cut"
    )
    max_redirects: int = Field(5, ge=0, description="hops after the first URL")
    tries: int = Field(3, ge=1, description="for transient errors, the first one included")
    backoff_s: float = Field(1.0, ge=0, description="waits between tries are random up to this, doubled every time")
    max_retry_after_s: float = Field(300.0, ge=0, description="the longest wait that a Retry-After gets")
    max_crawl_delay_s: float = Field(30.0, ge=0, description="a site that asks for more is left alone")
    max_host_errors: int = Field(5, ge=1, description="a host is stopped after so many errors in a row ...")
    host_stop_s: float = Field(3600.0, ge=0, description="... and for so long")
    obey_robots: bool = Field(True, description="ask robots.txt first (RFC 9309); unreachable means no")
    respect_opt_out: bool = Field(True, description="leave what opts out by X-Robots-Tag or tdm-reservation")
    opt_out_directives: tuple[str, ...] = Field(
        ("noai", "noimageai", "noindex", "noimageindex", "none"), description="of X-Robots-Tag"
    )
    allow_private: tuple[str, ...] = Field(
        (), description="addresses or networks (CIDR) that may be reached although they are not public"
    )
    placeholder_sha256: frozenset[str] = Field(
        frozenset(), description="hex, lower case, of pictures that sites serve in place of removed ones"
    )

    @field_validator("contact")
    @classmethod
    def _contact_can_be_written_to(cls, contact: str) -> str:
        if contact and not (contact.isascii() and contact.isprintable() and _CONTACT.fullmatch(contact)):
            raise ValueError("expected one mail address or one http(s) URL")
        return contact

    @field_validator("allow_private")
    @classmethod
    def _networks_can_be_read(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(f"{error}; expected an address or a network in CIDR form") from error
        return networks

    def require_contact(self) -> None:
        """Raises RecipeError for a crawl of the open web that nobody answers for."""
        if not self.contact and not self.allow_private:
            raise RecipeError(
                "fetch.contact: missing; site owners must be able to reach you: set a mail address or a URL "
                "(only a crawl of fetch.allow_private addresses can do without)"
            )

    @property
    def user_agent(self) -> str:
        """The User-Agent header, for instance ``hifidata/0.1.0 (+mailto:crawl@example.org)``."""
        link = f"mailto:{self.contact}" if "@" in self.contact and "//" not in self.contact else self.contact
        product = f"{self.user_agent_name}/{_package_version()}"
        return f"{product} (+{link})" if link else product


def _package_version() -> str:
    try:
        return version("hifi-portrait")
    except PackageNotFoundError:
        return "0"
