"""A source for names: search providers return URLs for each name, and the crawl fetches them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from hifidata.core.errors import SourceError
from hifidata.core.reasons import Reason
from hifidata.core.schema import Candidate, IdentityTask, Status, identity_id_of
from hifidata.fetch.config import FetcherConfig
from hifidata.sources.reasons import NO_HITS, SEARCH_ERROR
from hifidata.sources.search.base import Hit, SearchFailure
from hifidata.sources.search.config import SearchConfig
from hifidata.sources.search.fields import one_line
from hifidata.sources.search.providers import open_providers

MAX_NAME_CHARS = 200
MAX_QUERY_CHARS = 200
"""Openverse truncates a longer query, others refuse it."""


class NamesSource:
    """List the names of a text file and search for the images of one name at a time.

    A line is a name, or a name, a tab and its own query that replaces the recipe's. Blank lines and lines that start
    with ``#`` are ignored. Names are normalised to Unicode NFC with single spaces. A repeated name is the same identity,
    and its first line counts.

    Args:
        settings: names, providers and query.
        fetch: User-Agent, timeouts and tries are those of the crawl.
        environment: contains the keys.

    Raises:
        SourceError: ``source.names`` is not set, or a key is missing.
        RecipeError: ``fetch.contact`` is missing, or a provider without licences is used with ``licences: open``.
    """

    def __init__(self, settings: SearchConfig, fetch: FetcherConfig, environment: Mapping[str, str]) -> None:
        if not settings.names:
            raise SourceError("source.names: missing; pass --set source.names=names.txt")
        self._settings = settings
        self._providers = open_providers(settings, fetch, environment)

    def identities(self) -> Iterator[IdentityTask]:
        """Yield one task per name in file order, with a query and no candidates. Raises SourceError with the line."""
        search = {
            "licences": self._settings.licences,
            "per_name": self._settings.per_name,
            "providers": list(self._settings.providers),
        }
        seen: set[str] = set()
        for name, text in self._lines():
            identity_id = identity_id_of(name)
            if identity_id not in seen:
                seen.add(identity_id)
                query = json.dumps({**search, "query": text}, ensure_ascii=False, sort_keys=True)
                yield IdentityTask(identity_id, name, "names", (), query)
        if not seen:
            raise SourceError(f"source.names: {self._settings.names}: contains no name; expected one per line")

    def expand(self, task: IdentityTask) -> IdentityTask:
        """Return the task with at most ``per_name`` candidates from the providers, each URL once. Blocks.

        A provider that fails adds a candidate with status failed, and the next provider is used. A search without hits
        adds a candidate with status dropped.
        """
        text = json.loads(task.query)["query"]
        found: dict[str, Candidate] = {}
        failed: list[Candidate] = []
        for provider in self._providers:
            if len(found) == self._settings.per_name:
                break
            try:
                for hit in provider.search(text):
                    found.setdefault(hit.url, _candidate(hit, provider.name, text))
                    if len(found) == self._settings.per_name:
                        break
            except SearchFailure as failure:
                failed.append(_without_image(provider.name, text, SEARCH_ERROR, str(failure)))
        if not found and not failed:
            names = ", ".join(provider.name for provider in self._providers)
            failed.append(_without_image(names, text, NO_HITS, f"nothing found by {names}"))
        return replace(task, candidates=(*found.values(), *failed))

    def _lines(self) -> Iterator[tuple[str, str]]:
        """Yield names and their queries."""
        path = Path(self._settings.names)
        try:
            with path.open(encoding="utf-8-sig") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip() and not line.lstrip().startswith("#"):
                        yield self._parsed(line, f"source.names: {path} line {number}")
        except FileNotFoundError:
            raise SourceError(f"source.names: {path}: no such file; pass --set source.names=names.txt") from None
        except OSError as error:
            raise SourceError(f"source.names: {path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SourceError(f"source.names: {path}: not UTF-8 ({error.reason}); save it as UTF-8 text") from error

    def _parsed(self, line: str, where: str) -> tuple[str, str]:
        first, _, rest = line.partition("\t")
        name, query = _normalised(first), _normalised(rest)
        if not name:
            raise SourceError(f"{where}: a query without a name; expected name, tab, query")
        if len(name) > MAX_NAME_CHARS:
            raise SourceError(f"{where}: a name of {len(name)} characters; expected at most {MAX_NAME_CHARS}")
        query = query or self._settings.query.replace("{name}", name)
        if len(query) > MAX_QUERY_CHARS:
            raise SourceError(f"{where}: a query of {len(query)} characters; expected at most {MAX_QUERY_CHARS}")
        return name, query


def _normalised(text: str) -> str:
    return one_line(unicodedata.normalize("NFC", text))


def _candidate(hit: Hit, provider: str, query: str) -> Candidate:
    facts = {
        "provider": provider,
        "author": hit.author,
        "licence": hit.licence,
        "landing_page_uri": hit.landing_page_uri,
        "search_query": query,
    }
    return Candidate(hit.url, hit.url, "", hit.url, {name: fact for name, fact in facts.items() if fact is not None})


def _without_image(provider: str, query: str, reason: Reason, message: str) -> Candidate:
    is_failure = reason is SEARCH_ERROR
    place = f"search:{provider}" if is_failure else "search:"
    facts = {
        "status": str(Status.FAILED if is_failure else Status.DROPPED),
        "stage": "fetch",
        "reason": str(reason),
        "message": message,
        "retryable": is_failure,
        "provider": provider,
        "search_query": query,
    }
    return Candidate(place, place, "", "", facts)
