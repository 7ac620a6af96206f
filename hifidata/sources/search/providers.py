"""The search providers by their recipe names, and how to open them."""

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
class Credential:
    """The environment variable of a key, and the header or URL parameter that sends it."""

    variable: KeyName
    header: str = ""
    param: str = ""
    prefix: str = ""
    is_optional: bool = False


@dataclass(frozen=True)
class ProviderSpec:
    """The fixed settings of a provider."""

    search: Search
    url: str
    pause_s: float
    credentials: tuple[Credential, ...] = ()
    states_licences: bool = True


PROVIDERS: Mapping[ProviderName, ProviderSpec] = {
    "wikimedia_commons": ProviderSpec(wikimedia_commons.search, wikimedia_commons.URL, pause_s=1.0),
    "openverse": ProviderSpec(
        openverse.search, openverse.URL, pause_s=3.0,  # 20 requests a minute without a token
        credentials=(Credential("OPENVERSE_TOKEN", header="Authorization", prefix="Bearer ", is_optional=True),),
    ),
    "brave": ProviderSpec(
        brave.search, brave.URL, pause_s=1.0,
        credentials=(Credential("BRAVE_API_KEY", header="X-Subscription-Token"),), states_licences=False,
    ),
    "google": ProviderSpec(
        google.search, google.URL, pause_s=0.7,
        credentials=(Credential("GOOGLE_API_KEY", param="key"), Credential("GOOGLE_CSE_ID", param="cx")),
        states_licences=False,
    ),
    "serpapi": ProviderSpec(
        serpapi.search, serpapi.URL, pause_s=1.0, credentials=(Credential("SERPAPI_API_KEY", param="api_key"),)
    ),
}  # fmt: skip


class Provider:
    """A provider with its client. Thread-safe."""

    def __init__(self, name: ProviderName, search: Search, client: SearchClient, only_open: bool) -> None:
        self.name = name
        self._search = search
        self._client = client
        self._only_open = only_open

    def search(self, query: str) -> Iterator[Hit]:
        """Yield hits, best first; see ``base.Search``. Raises SearchFailure."""
        return self._search(self._client, query, self._only_open)


def open_providers(
    settings: SearchConfig, fetch: FetcherConfig, environment: Mapping[str, str]
) -> tuple[Provider, ...]:
    """Open the recipe's providers in its order, without any request.

    Raises:
        SourceError: a provider needs a key that the environment does not contain.
        RecipeError: ``fetch.contact`` is missing, or a provider without licences is used with ``licences: open``.
    """
    if not fetch.contact and not set(settings.providers) <= settings.base_urls.keys():
        raise RecipeError(
            "fetch.contact: missing; search providers must be able to reach you: set a mail address or a URL"
        )
    return tuple(_open(name, settings, fetch, environment) for name in settings.providers)


def _open(name: ProviderName, settings: SearchConfig, fetch: FetcherConfig, environment: Mapping[str, str]) -> Provider:
    spec = PROVIDERS[name]
    only_open = settings.licences == "open"
    if only_open and not spec.states_licences:
        raise RecipeError(f"source.licences: open: {name} states no licences; remove it from source.providers")
    headers: dict[str, str] = {}
    params: dict[str, str] = {}
    for credential in spec.credentials:
        variable = settings.key_env.get(credential.variable, credential.variable)
        value = environment.get(variable, "").strip()
        if value and not (value.isascii() and value.isprintable()):
            raise SourceError(
                f"source.providers: {name}: the value of {variable} is not a key; expected printable ASCII"
            )
        if value:
            target = headers if credential.header else params
            target[credential.header or credential.param] = credential.prefix + value
        elif not credential.is_optional:
            raise SourceError(
                f"source.providers: {name} needs a key; set the environment variable {variable}, "
                f"or remove {name} from source.providers"
            )
    pause_s = settings.pause_s.get(name, spec.pause_s)
    endpoint = Endpoint(name, settings.base_urls.get(name, spec.url), pause_s, headers, params)
    return Provider(name, spec.search, SearchClient(endpoint, fetch), only_open)
