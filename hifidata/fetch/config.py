"""The recipe's ``fetch`` section."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_network

from pydantic import Field, field_validator

from hifidata.core.base_config import BaseConfig
from hifidata.core.errors import RecipeError

_CONTACT = re.compile(r"(https?://[^\s()<>]+\.[^\s()<>]+|[^\s()<>@:/]+@[^\s()<>@:/]+\.[^\s()<>@:/]+)", re.ASCII)


class FetcherConfig(BaseConfig):
    """Settings of the fetcher. The defaults suit the open web; tests and the demo relax them for loopback."""

    contact: str = Field(
        "",
        description="mail address or URL of the person responsible for this crawl; site owners see it in the "
        "User-Agent. Required for public addresses",
    )
    user_agent_name: str = Field(
        "hifidata",
        pattern=r"^[A-Za-z][A-Za-z_-]*$",  # RFC 9309 2.2.1: what a robots.txt can name
        description="product token; robots.txt and X-Robots-Tag may use this name",
    )
    max_connections: int = Field(256, ge=1, description="open at once; lowered if the open-file limit requires it")
    connections_per_host: int = Field(1, ge=1, description="open at once to one host")
    delay_s: float = Field(
        1.0, ge=0, description="minimum time between requests to one host; a longer crawl delay of its robots.txt wins"
    )
    slowdown: float = Field(
        2.0, ge=0, description="minimum delay as a multiple of the host's last response time, up to 10 s; 0 disables it"
    )
    dns_timeout_s: float = Field(5.0, gt=0, description="for one DNS lookup")
    connect_timeout_s: float = Field(5.0, gt=0, description="for one connection, TLS included")
    read_timeout_s: float = Field(10.0, gt=0, description="between two reads of a response")
    total_timeout_s: float = Field(
        30.0, gt=0, description="network time of one URL over tries and redirects, without waits for the throttle"
    )
    keepalive_s: float = Field(2.0, gt=0, description="how long an idle connection is kept")
    max_bytes: int = Field(
        32 * 2**20, ge=1, description="limit of a body, both as received and decoded; a larger one is refused"
    )
    max_redirects: int = Field(5, ge=0, description="redirects after the first URL")
    tries: int = Field(3, ge=1, description="for transient errors, the first one included")
    backoff_s: float = Field(1.0, ge=0, description="the wait after a try is random up to this, doubled after each")
    max_retry_after_s: float = Field(300.0, ge=0, description="limit of the wait that a Retry-After gets")
    max_crawl_delay_s: float = Field(30.0, ge=0, description="sites with a longer crawl delay are skipped")
    max_host_errors: int = Field(5, ge=1, description="errors in a row after which a host is stopped")
    host_stop_s: float = Field(3600.0, ge=0, description="how long a host is stopped")
    obey_robots: bool = Field(
        True, description="apply robots.txt (RFC 9309); an unreachable one counts as disallow-all"
    )
    respect_opt_out: bool = Field(True, description="skip images that opt out by X-Robots-Tag or tdm-reservation")
    opt_out_directives: tuple[str, ...] = Field(
        ("noai", "noimageai", "noindex", "noimageindex", "none"), description="of X-Robots-Tag"
    )
    allow_private: tuple[str, ...] = Field(
        (), description="addresses or networks (CIDR) that are allowed although they are not public"
    )
    placeholder_sha256: frozenset[str] = Field(
        frozenset(), description="hex, lower case, of the images that sites serve for removed ones"
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
