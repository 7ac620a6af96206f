"""What a recipe says about searching."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from hifidata.core.base_config import BaseConfig

ProviderName = Literal["wikimedia_commons", "openverse", "brave", "google", "serpapi"]
KeyName = Literal["OPENVERSE_TOKEN", "BRAVE_API_KEY", "GOOGLE_API_KEY", "GOOGLE_CSE_ID", "SERPAPI_API_KEY"]


class SearchConfig(BaseConfig):
    """What to search for, and where."""

    names: str = Field(
        "", description="text file: a name per line, '#' starts a comment; a tab and a query of its own may follow"
    )
    query: str = Field("{name}", description="what is asked for; {name} stands for the name")
    providers: tuple[ProviderName, ...] = Field(
        ("wikimedia_commons", "openverse"), min_length=1, description="in this order, each fills up what is missing"
    )
    per_name: int = Field(100, ge=1, le=1000, description="pictures per name, at most; paper: about 100")
    licences: Literal["any", "open"] = Field(
        "any", description="open: only CC0, public domain, CC BY, CC BY-SA, and whatever Wikimedia Commons accepts"
    )
    pause_s: dict[ProviderName, float] = Field(
        default_factory=dict, description="least time between requests to a provider, where its default does not suit"
    )
    key_env: dict[KeyName, str] = Field(
        default_factory=dict, description="environment variables to read instead, such as {BRAVE_API_KEY: TEAM_KEY}"
    )
    base_urls: dict[ProviderName, str] = Field(
        default_factory=dict, description="http(s) URLs to ask instead of the providers' own, for proxies and tests"
    )

    @field_validator("query")
    @classmethod
    def _query_names_somebody(cls, query: str) -> str:
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
    def _urls_can_be_asked(cls, base_urls: dict[ProviderName, str]) -> dict[ProviderName, str]:
        for url in base_urls.values():
            if not _is_plain_http(url):
                raise ValueError("expected http(s) URLs with a host and without credentials, query or fragment")
        return base_urls


def _is_plain_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port  # raises ValueError where it is no port
    except ValueError:
        return False
    extras = (parts.username, parts.password, parts.query, parts.fragment)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and not any(extras)
