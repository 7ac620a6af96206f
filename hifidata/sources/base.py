"""What a source is: it lists people with their candidates, and reads a candidate's bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from hifidata.core.schema import Candidate, IdentityTask


class Reader(Protocol):
    """Hands out a candidate's bytes; every worker has one."""

    def read(self, candidate: Candidate) -> bytes:
        """The bytes as they lie there. Raises IntakeError where they cannot be read."""


class Source(Reader, Protocol):
    """Where candidates come from. Listing is cheap and reads no picture; reading happens in the workers."""

    def identities(self) -> Iterator[IdentityTask]:
        """People in a stable order, candidates in a stable order. Raises SourceError where nothing can be listed."""


class RemoteSource(Protocol):
    """A source whose candidates lie on the web; their locators are URLs. The crawl fetches them before any stage runs."""

    def identities(self) -> Iterator[IdentityTask]:
        """As ``Source.identities``; a person still to be searched for has a ``query`` and no candidates."""

    def expand(self, task: IdentityTask) -> IdentityTask:
        """The task with its candidates: as it is, or after a search. May block; called from several threads at once.

        A search that fails or finds nothing becomes a candidate that is judged already, never an error.
        """
