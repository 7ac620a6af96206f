"""Search providers on loopback, and sources that ask them without losing time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hifidata.core.schema import Candidate
from hifidata.fetch.config import FetcherConfig
from hifidata.sources.names import NamesSource
from hifidata.sources.search.config import SearchConfig
from tests.servers.search import DIALECTS, KEY, SearchServer

KEYS = {"BRAVE_API_KEY": KEY, "GOOGLE_API_KEY": KEY, "GOOGLE_CSE_ID": "engine", "SERPAPI_API_KEY": KEY}


@pytest.fixture
def server() -> Iterator[SearchServer]:
    with SearchServer() as running:
        yield running


MakeSource = Callable[..., NamesSource]


@pytest.fixture
def source(server: SearchServer, tmp_path: Path) -> MakeSource:
    """``source(lines, fetch={...}, environment={...}, **settings)`` asks the loopback server without pauses."""

    def make(
        lines: str = "Marie Curie\n",
        *,
        fetch: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        **settings: Any,
    ) -> NamesSource:
        path = tmp_path / "names.txt"
        path.write_text(lines, encoding="utf-8")
        values: dict[str, Any] = {
            "names": str(path), "base_urls": server.base_urls, "pause_s": dict.fromkeys(DIALECTS, 0.0), **settings,
        }  # fmt: skip
        quick = {"backoff_s": 0.01, "connect_timeout_s": 1.0, "total_timeout_s": 1.0, "allow_private": ["127.0.0.1"]}
        return NamesSource(
            SearchConfig.model_validate(values),
            FetcherConfig.model_validate(quick | (fetch or {})),
            KEYS if environment is None else environment,
        )

    return make


def candidates(source: NamesSource) -> Sequence[Candidate]:
    """Of the only name."""
    (task,) = source.identities()
    return source.expand(task).candidates
