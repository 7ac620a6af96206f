"""Interfaces of sources: list identities with their candidates, read the bytes of a candidate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from hifidata.core.reasons import Reason
from hifidata.core.schema import Candidate, IdentityTask, Status

NO_IDENTITY = "(no identity)"
"""Name of the placeholder identity of candidates for which the source states no identity."""
MAX_WITHOUT_IDENTITY = 10_000
"""Candidates without an identity get placeholder identities of at most so many each, which bounds the memory."""

MAX_NAME_CHARS = 1000
"""Longest text of a column of a list: names, ids, licences, authors."""
MAX_URL_CHARS = 8192
"""Longest URL of a list. The crawl requests no longer one."""


class Reader(Protocol):
    """Reads the bytes of candidates; every worker has one."""

    def read(self, candidate: Candidate) -> bytes:
        """Return the bytes unchanged. Raises IntakeError if they cannot be read."""


class Source(Reader, Protocol):
    """A source of local candidates. Listing is cheap and decodes no image; the workers read them."""

    def identities(self) -> Iterator[IdentityTask]:
        """Yield identities and their candidates in a stable order. Raises SourceError if nothing can be listed."""

    @property
    def notes(self) -> Sequence[str]:
        """One line each on files that are no candidates, and on suspicious layouts. Complete after ``identities``.

        They hold counts and no names.
        """

    def caption(self, candidate: Candidate) -> str | None:
        """Return the text beside the image, or None if there is none or it cannot be read."""


class RemoteSource(Protocol):
    """A source of candidates on the web; their locators are URLs. The crawl fetches them before any stage runs."""

    def identities(self) -> Iterator[IdentityTask]:
        """As ``Source.identities``; an identity that needs a search has a ``query`` and no candidates."""

    def expand(self, task: IdentityTask) -> IdentityTask:
        """Return the task with its candidates, after a search if it needs one. May block; must be thread-safe.

        A search that fails or finds nothing adds a candidate with a final status and raises no error.
        """


def judged(stage: str, reason: Reason, message: str) -> dict[str, Any]:
    """Return the facts of a candidate that the source has judged itself."""
    status = Status.FAILED if reason.failed else Status.DROPPED
    return {"status": str(status), "stage": stage, "reason": str(reason), "message": message}


def placeholder_identity(n_before: int) -> str:
    """Return the identity of a candidate that has none.

    Args:
        n_before: number of earlier candidates without an identity.
    """
    part = n_before // MAX_WITHOUT_IDENTITY
    return f"{NO_IDENTITY} {part + 1}" if part else NO_IDENTITY
