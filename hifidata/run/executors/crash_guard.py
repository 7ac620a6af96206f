"""Detection of repeated worker crashes. Each worker marks its current task on disk; the next process counts the marks.

Ray restarts a crashed worker with the same identity, without a limit. That is right for a random crash. But a model that
crashes every process, or an identity that exceeds the memory, would never end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hifidata.core.errors import HifiError

MAX_CRASHES = 3
"""Most crashes at the same task. Crashes at different tasks are normal on a cluster."""


class CrashGuard:
    """The task marks of one worker group.

    Args:
        folder: folder for the marks of one run, empty at its start and writable for all workers.
        group: name and models of the group, for the message.
    """

    def __init__(self, folder: Path, group: str) -> None:
        self._folder = folder
        self._group = group

    @contextmanager
    def at(self, key: str, doing: str) -> Iterator[None]:
        """Mark a task while the block runs. The end of the block, also by an exception, removes the mark.

        Args:
            key: file name of the mark, equal for all processes with the same task.
            doing: description of the task, for the message.

        Raises:
            HifiError: ``MAX_CRASHES`` processes have crashed at this task.
        """
        mark = self._folder / key
        n_crashes = mark.stat().st_size if mark.exists() else 0
        if n_crashes >= MAX_CRASHES:
            raise HifiError(
                f"groups: {self._group}: its worker crashed {n_crashes} times while {doing}. Probable causes: out of memory "
                "(lower max_workers, or run the group on another machine), or a broken model file (run `hifidata weights verify`)"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        with mark.open("ab") as file:
            file.write(b".")
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)
