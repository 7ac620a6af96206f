"""The ``local`` executor: everything in this process, one identity after the other. For debugging; the baseline, too."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

from hifidata.recipe import STAGE_NAMES, Recipe
from hifidata.run.plan import list_tasks, open_source
from hifidata.run.work import Outcome, Worker


def run_local(recipe: Recipe, pending: Container[str], out: Path) -> Iterator[Outcome]:
    """Commits the pending identities one after the other and yields what became of each."""
    worker = Worker(recipe, STAGE_NAMES, open_source(recipe), out)
    for task in list_tasks(recipe, pending):
        yield worker.process(task)
