"""The providers by the names that recipes use, and how each is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hifidata.core.errors import RecipeError, SourceError
from hifidata.fetch.config import FetcherConfig
from hifidata.sources.search import brave, google, openverse, serpapi, wikimedia_commons
from hifidata.sources.search.base import Hit, Search
from hifidata.sources.search.client import Endpoint, SearchClient
from hifidata.sources.search.config import KeyName, ProviderName, SearchConfig


@dataclass(frozen=True)
class Key:
    """A credential: the environment variable that holds it, and the header or URL parameter that carries it."""

    variable: KeyName
    header: str = ""
    param: str = ""
    prefix: str = ""
    is_optional: bool = False


@dataclass(frozen=True)
class Kind:
    """What has to be known of a provider besides how it speaks."""

    search: Search
    url: str
    pause_s: float
    keys: tuple[Key, ...] = ()
    states_licences: bool = True


PROVIDERS: Mapping[ProviderName, Kind] = {
    "wikimedia_commons": Kind(wikimedia_commons.search, wikimedia_commons.URL, pause_s=1.0),
    "openverse": Kind(
        openverse.search, openverse.URL, pause_s=3.0,  # 20 requests a minute without a token
        keys=(Key("OPENVERSE_TOKEN", header="Authorization", prefix="Bearer ", is_optional=True),),
    ),
    "brave": Kind(
        brave.search, brave.URL, pause_s=1.0,
        keys=(Key("BRAVE_API_KEY", header="X-Subscription-Token"),), states_licences=False,
    ),
    "google": Kind(
        google.search, google.URL, pause_s=0.7,
        keys=(Key("GOOGLE_API_KEY", param="key"), Key("GOOGLE_CSE_ID", param="cx")), states_licences=False,
    ),
    "serpapi": Kind(serpapi.search, serpapi.URL, pause_s=1.0, keys=(Key("SERPAPI_API_KEY", param="api_key"),)),
}  # fmt: skip


class Provider:
    """An opened provider; any thread may search."""

    def __init__(self, name: ProviderName, search: Search, client: SearchClient, only_open: bool) -> None:
        self.name = name
        self._search = search
        self._client = client
        self._only_open = only_open

    def search(self, query: str) -> Iterator[Hit]:
        """Hits, best first; see ``base.Search``. Raises SearchFailure."""
        return self._search(self._client, query, self._only_open)


def open_providers(
    settings: SearchConfig, fetch: FetcherConfig, environment: Mapping[str, str]
) -> tuple[Provider, ...]:
    """The recipe's providers in its order; sends nothing.

    Raises:
        SourceError: a provider needs a key that the environment does not hold.
        RecipeError: nobody answers for the searches (``fetch.contact``), or a provider cannot tell which licences are open.
    """
    if not fetch.contact and not set(settings.providers) <= settings.base_urls.keys():
        raise RecipeError(
            "fetch.contact: missing; search providers must be able to reach you: set a mail address or a URL"
        )
    return tuple(_open(name, settings, fetch, environment) for name in settings.providers)


def _open(name: ProviderName, settings: SearchConfig, fetch: FetcherConfig, environment: Mapping[str, str]) -> Provider:
    kind = PROVIDERS[name]
    only_open = settings.licences == "open"
    if only_open and not kind.states_licences:
        raise RecipeError(f"source.licences: open: {name} states no licences; leave it out of source.providers")
    headers: dict[str, str] = {}
    params: dict[str, str] = {}
    for key in kind.keys:
        variable = settings.key_env.get(key.variable, key.variable)
        value = environment.get(variable, "").strip()
        if value and not (value.isascii() and value.isprintable()):
            raise SourceError(f"source.providers: {name}: the value of {variable} is no key; expected printable ASCII")
        if value:
            (headers if key.header else params)[key.header or key.param] = key.prefix + value
        elif not key.is_optional:
            raise SourceError(
                f"source.providers: {name} needs a key; set the environment variable {variable}, "
                f"or leave {name} out of source.providers"
            )
    pause_s = settings.pause_s.get(name, kind.pause_s)
    endpoint = Endpoint(name, settings.base_urls.get(name, kind.url), pause_s, headers, params)
    return Provider(name, kind.search, SearchClient(endpoint, fetch), only_open)
