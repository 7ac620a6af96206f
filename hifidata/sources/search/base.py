"""Interfaces of search providers: a function turns a query into hits and requests pages only when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hifidata.core.errors import HifiError

JsonObject = dict[str, Any]
"""A JSON object from a provider. Its content is untrusted, including all types."""


@dataclass(frozen=True)
class Hit:
    """One image of a search result.

    Attributes:
        url: of the image itself.
        landing_page_uri: page that shows it.
        licence: its name, such as ``CC BY-SA 4.0``; None if the provider states none.
        author: plain text.
    """

    url: str
    landing_page_uri: str | None = None
    licence: str | None = None
    author: str | None = None


class SearchFailure(HifiError):
    """A search failed. ``NamesSource.expand`` turns this exception into a manifest row.

    Args:
        message: one line for the manifest, without keys.
        transient: retry now.
        refused: the provider refuses all our requests (wrong key, used-up quota).
        retry_after_s: the wait that the provider asks for.
    """

    def __init__(
        self, message: str, *, transient: bool = False, refused: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.transient = transient
        self.refused = refused
        self.retry_after_s = retry_after_s


class Client(Protocol):
    """Sends requests to one provider within its rate limit; see ``client.SearchClient``."""

    def get(self, params: Mapping[str, str | int], check: Callable[[JsonObject], None] | None = None) -> JsonObject:
        """Return the response to one request.

        Args:
            params: of the URL's query, without credentials.
            check: raises SearchFailure if a response with status 200 reports an error in the provider's own form.

        Raises:
            SearchFailure: all tries that the recipe allows have failed.
        """


Search = Callable[[Client, str, bool], Iterator[Hit]]
"""``search(client, query, only_open)`` yields the best hits first and requests a page when the previous one is read.

``only_open`` skips images without an open licence (``licence.is_open``). Files of types that no stage can decode (SVG,
TIFF, PDF, video) are skipped, see ``fields.is_image_type``. May raise SearchFailure between hits.
"""
