"""The ``local`` executor: all identities in this process, one after the other, for debugging and as a baseline."""

from __future__ import annotations

from collections.abc import Container, Generator
from contextlib import closing, nullcontext
from pathlib import Path

from hifidata.config.recipe import Recipe
from hifidata.models.runtime.device import gpus_hidden
from hifidata.run.devices import may_use_gpu
from hifidata.run.executors.input import identity_tasks, open_reader
from hifidata.run.worker import Outcome, Worker


def run_local(recipe: Recipe, pending: Container[str], out: Path, run_id: str) -> Generator[Outcome, None, None]:
    """Process and commit the pending identities, and yield the outcome of each."""
    without_gpus = nullcontext if may_use_gpu(recipe) else gpus_hidden
    with without_gpus():
        worker = Worker(recipe, recipe.stage_names, open_reader(recipe, out), out, run_id)
    with closing(identity_tasks(recipe, pending, out, run_id)) as tasks:
        for task in tasks:
            with without_gpus():
                outcome = worker.process(task)
            yield outcome
