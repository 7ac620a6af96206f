"""The ``local`` executor: everything in this process, one identity after the other. For debugging, and as the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hifidata.recipe import STAGE_NAMES, Recipe
from hifidata.run.plan import open_source
from hifidata.run.work import Outcome, Worker
from hifidata.schema import IdentityTask


def run_local(recipe: Recipe, tasks: Sequence[IdentityTask], out: Path) -> Iterator[Outcome]:
    """Commits one identity after the other and yields what became of it."""
    worker = Worker(recipe, STAGE_NAMES, open_source(recipe), out)
    for task in tasks:
        yield worker.process(task)
