"""What a search provider is: a function that turns a query into hits, page by page, as far as somebody reads on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hifidata.core.errors import HifiError

Answer = dict[str, Any]
"""A JSON object as a provider sent it; nothing in it is to be trusted, not even its types."""


@dataclass(frozen=True)
class Hit:
    """One picture that a provider names.

    Attributes:
        url: of the picture itself.
        landing_page_uri: page that shows it.
        licence: in words, ``CC BY-SA 4.0``; None where the provider states none.
        author: plain text.
    """

    url: str
    landing_page_uri: str | None = None
    licence: str | None = None
    author: str | None = None


class SearchFailure(HifiError):
    """A provider did not answer a question; never leaves the package, ``NamesSource.expand`` makes a row of it.

    Args:
        message: one line for the manifest, without keys.
        transient: worth another try now.
        refused: the provider does not want us (wrong key, spent quota): asking for other names is no use either.
        retry_after_s: how long it wants to be left alone.
    """

    def __init__(
        self, message: str, *, transient: bool = False, refused: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.transient = transient
        self.refused = refused
        self.retry_after_s = retry_after_s


class Client(Protocol):
    """Asks one provider, politely; see ``client.SearchClient``."""

    def get(self, params: Mapping[str, str | int], check: Callable[[Answer], None] | None = None) -> Answer:
        """The answer to one request.

        Args:
            params: of the URL's query, credentials left out.
            check: raises SearchFailure where an answer with status 200 is an error in the provider's dialect.

        Raises:
            SearchFailure: after the tries that the recipe allows.
        """


Search = Callable[[Client, str, bool], Iterator[Hit]]
"""``search(client, query, only_open)`` yields hits best first and asks for a page only when the one before is read.

``only_open`` leaves out what is not openly licensed (``licence.is_open``). Pictures whose stated type no stage can read
(SVG, TIFF, PDF, video) are left out, too, see ``fields.is_picture_type``. May raise SearchFailure between hits.
"""
