"""Workers that die: what each is at is noted on disk, so that the process after it knows what killed it.

Ray starts a dead worker again and hands it the same person, for ever. A death by chance is survived that way; a model that
kills whatever loads it, or a person at whom memory runs out, would never end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hifidata.core.errors import HifiError

MAX_CRASHES = 3
"""At the same thing; deaths at different ones are a cluster's daily life."""


class CrashGuard:
    """The notes of one worker group.

    Args:
        folder: of one run, empty at its start; all workers can write to it.
        group: name and models of the group, for the message.
    """

    def __init__(self, folder: Path, group: str) -> None:
        self._folder = folder
        self._group = group

    @contextmanager
    def at(self, key: str, doing: str) -> Iterator[None]:
        """Notes that this process is at something; gone when it has ended, also by an exception.

        Args:
            key: the same for every process that tries the same, and a file name.
            doing: what that is, for the message.

        Raises:
            HifiError: ``MAX_CRASHES`` processes have died at it.
        """
        note = self._folder / key
        died = note.stat().st_size if note.exists() else 0
        if died >= MAX_CRASHES:
            raise HifiError(
                f"groups: {self._group}: its worker died {died} times while {doing}, and was stopped; out of memory (lower "
                "max_workers, or give the group a machine of its own), or a broken model file (`hifidata weights verify`)?"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        with note.open("ab") as file:
            file.write(b".")
        try:
            yield
        finally:
            note.unlink(missing_ok=True)
