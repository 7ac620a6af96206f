"""The recipe's settings of a search for names."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from hifidata.core.base_config import BaseConfig

ProviderName = Literal["wikimedia_commons", "openverse", "brave", "google", "serpapi"]
KeyName = Literal["OPENVERSE_TOKEN", "BRAVE_API_KEY", "GOOGLE_API_KEY", "GOOGLE_CSE_ID", "SERPAPI_API_KEY"]


class SearchConfig(BaseConfig):
    """Names, queries and search providers."""

    names: str = Field(
        "",
        description="text file with one name per line; '#' starts a comment. A tab and an own query may follow the name",
    )
    query: str = Field("{name}", description="search query; {name} is replaced by the name")
    providers: tuple[ProviderName, ...] = Field(
        ("wikimedia_commons", "openverse"),
        min_length=1,
        description="search providers, in order; each provider adds candidates until per_name is reached",
    )
    per_name: int = Field(100, ge=1, le=1000, description="most candidates per name. Paper: about 100")
    licences: Literal["any", "open"] = Field(
        "any", description="open: only CC0, public domain, CC BY, CC BY-SA, and all licences of Wikimedia Commons"
    )
    pause_s: dict[ProviderName, float] = Field(
        default_factory=dict,
        description="shortest time between requests to a provider; overrides the provider's default",
    )
    key_env: dict[KeyName, str] = Field(
        default_factory=dict,
        description="other environment variables for the API keys, such as {BRAVE_API_KEY: TEAM_KEY}",
    )
    base_urls: dict[ProviderName, str] = Field(
        default_factory=dict, description="other http(s) base URLs of the providers, for proxies and tests"
    )

    @field_validator("query")
    @classmethod
    def _query_contains_the_name(cls, query: str) -> str:
        if "{name}" not in query:
            raise ValueError("expected {name} in it")
        return " ".join(query.split())

    @field_validator("providers")
    @classmethod
    def _providers_differ(cls, providers: tuple[ProviderName, ...]) -> tuple[ProviderName, ...]:
        if len(set(providers)) != len(providers):
            raise ValueError("expected every provider once")
        return providers

    @field_validator("pause_s")
    @classmethod
    def _pauses_are_times(cls, pause_s: dict[ProviderName, float]) -> dict[ProviderName, float]:
        if any(pause < 0 for pause in pause_s.values()):
            raise ValueError("expected seconds, 0 or more")
        return pause_s

    @field_validator("base_urls")
    @classmethod
    def _urls_are_plain_http(cls, base_urls: dict[ProviderName, str]) -> dict[ProviderName, str]:
        for url in base_urls.values():
            if not _is_plain_http(url):
                raise ValueError("expected http(s) URLs with a host and without credentials, query or fragment")
        return base_urls


def _is_plain_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port  # raises ValueError for an invalid port
    except ValueError:
        return False
    extras = (parts.username, parts.password, parts.query, parts.fragment)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and not any(extras)
