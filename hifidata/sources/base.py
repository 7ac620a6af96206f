"""What a source is: it lists people with their candidates, and reads a candidate's bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from hifidata.schema import Candidate, IdentityTask


class Source(Protocol):
    """Where candidates come from. Listing is cheap and reads no picture; reading happens in the workers."""

    def identities(self) -> Iterator[IdentityTask]:
        """People in a stable order, candidates in a stable order. Raises SourceError where nothing can be listed."""

    def read(self, candidate: Candidate) -> bytes:
        """The bytes as they lie there. Raises IntakeError where they cannot be read."""
