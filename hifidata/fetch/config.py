"""The recipe's ``fetch`` section."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_network
from typing import Literal

from pydantic import Field, field_validator

from hifidata.core.base_config import BaseConfig
from hifidata.core.errors import RecipeError

_CONTACT = re.compile(r"(https?://[^\s()<>]+\.[^\s()<>]+|[^\s()<>@:/]+@[^\s()<>@:/]+\.[^\s()<>@:/]+)", re.ASCII)


class FetcherConfig(BaseConfig):
    """Settings of the fetcher. The defaults suit the open web; tests and the demo relax them for loopback."""

    contact: str = Field(
        "",
        description="mail address or URL of the operator of this crawl; site owners see it in the User-Agent. Without it "
        "no public address is contacted",
    )
    user_agent_name: str = Field(
        "hifidata",
        pattern=r"^[A-Za-z][A-Za-z_-]*$",  # RFC 9309 2.2.1: product tokens of a robots.txt
        description="product token of the User-Agent; rules of robots.txt and X-Robots-Tag with this name apply",
    )
    max_connections: int = Field(
        256, ge=1, description="most open connections; fewer if the system's limit on open files is low"
    )
    connections_per_host: int = Field(1, ge=1, description="most open connections to one host")
    delay_s: float = Field(
        1.0,
        ge=0,
        description="shortest time between requests to one host; a longer Crawl-delay in robots.txt takes precedence",
    )
    slowdown: float = Field(
        2.0,
        ge=0,
        description="rate limit by response time: requests to one host are at least slowdown x its last response time "
        "apart, up to 10 s; 0: off",
    )
    dns_timeout_s: float = Field(5.0, gt=0, description="timeout of a DNS lookup")
    connect_timeout_s: float = Field(5.0, gt=0, description="timeout of a connection, including TLS")
    read_timeout_s: float = Field(10.0, gt=0, description="timeout between two pieces of a response")
    total_timeout_s: float = Field(
        30.0,
        gt=0,
        description="deadline of one URL, over all tries and redirects; waiting for the rate limit does not count",
    )
    keepalive_s: float = Field(2.0, gt=0, description="lifetime of an idle connection")
    max_bytes: int = Field(
        32 * 2**20,
        ge=1,
        description="largest response body in bytes, both compressed and decompressed; a larger body is refused",
    )
    referer: Literal["landing_page"] | None = Field(
        None,
        description="landing_page: send the URL of the image's web page as Referer, where the list or search has one; some "
        "sites refuse images without it. null: send none",
    )
    max_redirects: int = Field(5, ge=0, description="most redirects of one URL")
    tries: int = Field(
        3, ge=1, description="most tries of one URL, including the first; only transient errors are retried"
    )
    backoff_s: float = Field(
        1.0,
        ge=0,
        description="backoff: the wait before a retry is random between 0 and this value, doubled for each retry",
    )
    max_retry_after_s: float = Field(300.0, ge=0, description="longest wait that a Retry-After header can cause")
    max_crawl_delay_s: float = Field(30.0, ge=0, description="a host with a longer Crawl-delay is not contacted")
    max_host_errors: int = Field(5, ge=1, description="consecutive errors after which a host is blocked")
    host_stop_s: float = Field(3600.0, ge=0, description="time for which the host is then blocked")
    obey_robots: bool = Field(
        True, description="obey robots.txt (RFC 9309); an unreachable robots.txt counts as disallow-all"
    )
    respect_opt_out: bool = Field(
        True, description="discard images whose site opts out by X-Robots-Tag or tdm-reservation"
    )
    opt_out_directives: tuple[str, ...] = Field(
        ("noai", "noimageai", "noindex", "noimageindex", "none"),
        description="directives of X-Robots-Tag that count as an opt-out",
    )
    allow_private: tuple[str, ...] = Field(
        (), description="addresses or networks (CIDR) that may be contacted although they are not public"
    )
    placeholder_sha256: frozenset[str] = Field(
        frozenset(), description="sha256 (hex, lower case) of placeholder images that sites serve for removed images"
    )

    @field_validator("contact")
    @classmethod
    def _contact_is_an_address(cls, contact: str) -> str:
        if contact and not (contact.isascii() and contact.isprintable() and _CONTACT.fullmatch(contact)):
            raise ValueError("expected one mail address or one http(s) URL")
        return contact

    @field_validator("allow_private")
    @classmethod
    def _networks_are_valid(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(f"{error}; expected an address or a network in CIDR form") from error
        return networks

    def require_contact(self) -> None:
        """Raise RecipeError if public addresses are allowed and no contact is set."""
        if not self.contact and not self.allow_private:
            raise RecipeError(
                "fetch.contact: missing; site owners must be able to reach you: set a mail address or a URL "
                "(only a crawl of fetch.allow_private addresses needs none)"
            )

    @property
    def user_agent(self) -> str:
        """The User-Agent header, for example ``hifidata/0.1.0 (+mailto:crawl@example.org)``."""
        link = f"mailto:{self.contact}" if "@" in self.contact and "//" not in self.contact else self.contact
        product = f"{self.user_agent_name}/{_package_version()}"
        return f"{product} (+{link})" if link else product


def _package_version() -> str:
    try:
        return version("hifi-portrait")
    except PackageNotFoundError:
        return "0"
