"""Interfaces of sources: list identities with their candidates, read the bytes of a candidate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from hifidata.core.schema import Candidate, IdentityTask


class Reader(Protocol):
    """Reads the bytes of candidates; every worker has one."""

    def read(self, candidate: Candidate) -> bytes:
        """Return the bytes unchanged. Raises IntakeError if they cannot be read."""


class Source(Reader, Protocol):
    """A source of local candidates. Listing is cheap and reads no image; the workers read them."""

    def identities(self) -> Iterator[IdentityTask]:
        """Yield identities and their candidates in a stable order. Raises SourceError if nothing can be listed."""


class RemoteSource(Protocol):
    """A source of candidates on the web; their locators are URLs. The crawl fetches them before any stage runs."""

    def identities(self) -> Iterator[IdentityTask]:
        """As ``Source.identities``; an identity that needs a search has a ``query`` and no candidates."""

    def expand(self, task: IdentityTask) -> IdentityTask:
        """Return the task with its candidates, after a search if it needs one. May block; must be thread-safe.

        A search that fails or finds nothing adds a candidate with a final status and raises no error.
        """
