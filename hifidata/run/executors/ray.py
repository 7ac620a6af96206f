"""The ``ray`` executor: Ray Data, one row and one block per identity, one pool of actors per worker group."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from hifidata.config.recipe import Recipe
from hifidata.core.errors import UsageError
from hifidata.models.runtime import device
from hifidata.run.devices import may_use_gpu
from hifidata.run.executors.crash_guard import CrashGuard
from hifidata.run.executors.input import identity_tasks, open_reader
from hifidata.run.executors.ray_runtime import environment_error, running_ray
from hifidata.run.identity_batch import (
    CARRIED_ERRORS,
    batch_from_bytes,
    batch_to_bytes,
    error_from_bytes,
    error_to_bytes,
    task_from_bytes,
    task_to_bytes,
)
from hifidata.run.plan import stage_table
from hifidata.run.worker import Outcome, Worker
from hifidata.store.layout import DatasetFolder

COLUMN = "identity_batch"
KIND = "kind"
"""Content of the column ``identity_batch``: ``task`` before the first group, then ``batch``, at the end ``outcome``. An
``error`` ends the run; Ray would return exceptions as text, or lose them."""


class PendingIdentities(Datasource):
    """The pending identities as a Ray data source, listed or crawled inside Ray: one row and one block per identity."""

    def __init__(self, recipe: Recipe, pending: frozenset[str], out: Path, run_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._out, self._run_id = out, run_id
        self._recipe_json = recipe.to_json()
        self._pending = pending

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: the size is unknown before the candidates are read."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """Return one task: a single reader keeps the source's order and the rate limits."""
        recipe_json, pending, out, run_id = self._recipe_json, self._pending, self._out, self._run_id

        def read() -> Iterator[pa.Table]:
            """Yield one block per identity. An error of ``CARRIED_ERRORS`` is the last block."""
            try:
                recipe = Recipe.from_json(recipe_json)
                with closing(identity_tasks(recipe, pending, out, run_id)) as tasks:
                    for task in tasks:
                        yield _block("task", task_to_bytes(task))
            except CARRIED_ERRORS as error:
                yield _block("error", error_to_bytes(error))

        return [ReadTask(read, BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None))]


def _block(kind: str, message: bytes) -> pa.Table:
    return pa.table({COLUMN: pa.array([message], pa.large_binary()), KIND: [kind]})


class GroupActor:
    """One process of a worker group. Ray Data calls it with one identity at a time.

    After an error that ends the run, the actor returns this error for all further calls.
    """

    def __init__(self, recipe_json: str, position: int, out: str, run_id: str) -> None:
        recipe = Recipe.from_json(recipe_json)
        groups = recipe.worker_groups
        self._is_last = position == len(groups) - 1
        self._guard = CrashGuard(DatasetFolder(Path(out)).deaths / str(position), _name_with_models(recipe, position))
        self._error = b""
        own_id = ray.get_runtime_context().get_actor_id()  # a restarted worker keeps its id
        if not may_use_gpu(recipe, groups[position].stages):
            os.environ[device.VISIBLE] = ""  # Ray does not hide GPUs from workers without num_gpus
        try:
            with self._guard.at(f"loading-{own_id}", "loading its models"):
                self._worker = Worker(
                    recipe, groups[position].stages, open_reader(recipe, Path(out)), Path(out), run_id
                )
        except CARRIED_ERRORS as error:
            self._error = error_to_bytes(error)

    def __call__(self, batch: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, list[Any]]:
        """Process one identity. Return its batch, its counts as JSON after the commit, or the error that ends the run."""
        (message,), (kind,) = batch[COLUMN], batch[KIND]
        if kind in ("outcome", "error"):
            return {COLUMN: [message], KIND: [kind]}
        if not self._error:
            try:
                kind, message = self._work(kind, message)
                return {COLUMN: [message], KIND: [kind]}
            except CARRIED_ERRORS as error:
                self._error = error_to_bytes(error)
        return {COLUMN: [self._error], KIND: ["error"]}

    def _work(self, kind: str, message: bytes) -> tuple[str, bytes]:
        worker = self._worker
        if kind == "task":
            batch = worker.open(task_from_bytes(message))
        else:
            batch = batch_from_bytes(message, worker.make_sample)
        task = batch.task
        outcome = worker.committed(task)
        if outcome is None:
            with self._guard.at(task.identity_id, f"processing {task.identity_name!r}"):
                done = worker.run(batch)
                if not self._is_last:
                    return "batch", batch_to_bytes(done, worker.columns)
                outcome = worker.commit(done)
        return "outcome", json.dumps(asdict(outcome)).encode()


def _name_with_models(recipe: Recipe, position: int) -> str:
    group = recipe.worker_groups[position]
    models = [
        f"{stage} {model}" for stage, runs, model in stage_table(recipe) if stage in group.stages and runs and model
    ]
    return f"{group.name} ({', '.join(models) or 'no models'})"


def run_ray(
    recipe: Recipe, pending: frozenset[str], out: Path, run_id: str, address: str | None
) -> Generator[Outcome, None, None]:
    """Process the pending identities, and yield their outcomes in the order of the commits.

    Args:
        recipe: resolved recipe.
        pending: ids of the identities to process.
        out: dataset folder, writable for all workers.
        run_id: id of this run.
        address: address of a running cluster, auto or HOST:PORT; None starts Ray on this machine for this run.

    Raises:
        HifiError, OSError: a worker raised it, or a worker crashed repeatedly.
        UsageError: the groups do not fit the cluster, or a group's environment cannot be created.
    """
    marks = DatasetFolder(out).deaths
    shutil.rmtree(marks, ignore_errors=True)  # a killed run may have left marks
    with running_ray(recipe, address):
        try:
            yield from _stream(recipe, pending, out, run_id)
        except ray.exceptions.RayError as error:
            raise environment_error(error) or error from None
        finally:
            shutil.rmtree(marks, ignore_errors=True)


def _stream(recipe: Recipe, pending: frozenset[str], out: Path, run_id: str) -> Iterator[Outcome]:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_operator_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.target_max_block_size = 1  # each row fills a block, and one actor receives the whole block
    # A reader with a CPU of its own would wait without end, because the actors hold all CPUs.
    data: ray.data.Dataset = ray.data.read_datasource(
        PendingIdentities(recipe, pending, out, run_id), override_num_blocks=1, num_cpus=0
    )
    cluster: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    sizes = pool_sizes(recipe, len(pending), cluster)
    for position, group in enumerate(recipe.worker_groups):
        data = data.map_batches(
            GroupActor,
            batch_size=1,
            batch_format="numpy",
            # Fixed pool size: a pool grows only if blocks queue up, and identities are too few for a queue.
            compute=ActorPoolStrategy(min_size=sizes[position], max_size=sizes[position]),
            fn_constructor_args=(recipe.to_json(), position, str(out), run_id),
            num_cpus=group.num_cpus,
            num_gpus=group.num_gpus or None,
            runtime_env=group.runtime_env or None,
        )
    for row in data.iter_rows():
        if row[KIND] == "error":
            raise error_from_bytes(row[COLUMN])
        yield Outcome(**json.loads(row[COLUMN]))


def pool_sizes(recipe: Recipe, n_pending: int, cluster: Mapping[str, float]) -> list[int]:
    """Return the number of workers of each group. All groups run at the same time and share the cluster.

    Each group starts with ``min_workers``. Then each group in turn gets one more worker, until no worker fits or all
    groups have reached their limit.

    Args:
        recipe: resolved recipe.
        n_pending: number of pending identities; a group gets no more workers than this.
        cluster: Ray's resources, by name.

    Raises:
        UsageError: the minimum of all groups does not fit. Ray itself would wait without end.
    """
    groups = recipe.worker_groups
    free = {"CPU": cluster.get("CPU", 0.0), "GPU": cluster.get("GPU", 0.0)}
    per_worker = [{"CPU": group.num_cpus, "GPU": group.num_gpus} for group in groups]
    sizes = [group.min_workers for group in groups]
    for kind in free:
        minimum = [size * resources[kind] for size, resources in zip(sizes, per_worker, strict=True)]
        free[kind] -= sum(minimum)
        if free[kind] < -1e-6:
            raise _does_not_fit(recipe, kind, minimum, cluster.get(kind, 0.0))
    limits = [
        min(limit for limit in (n_pending, group.max_workers, recipe.executor.workers) if limit is not None)
        for group in groups
    ]
    growing = [position for position, resources in enumerate(per_worker) if any(resources.values())]
    while growing:
        for position in list(growing):
            fits = all(amount <= free[kind] + 1e-6 for kind, amount in per_worker[position].items())
            if not fits or sizes[position] >= limits[position]:
                growing.remove(position)
                continue
            sizes[position] += 1
            for kind, amount in per_worker[position].items():
                free[kind] -= amount
    return sizes


def _does_not_fit(recipe: Recipe, kind: str, minimum: Sequence[float], available: float) -> UsageError:
    parts = ", ".join(f"{g.name} {n:g}" for g, n in zip(recipe.worker_groups, minimum, strict=True) if n)
    first = "raise executor.workers, or " if kind == "CPU" and recipe.executor.workers else ""
    last = "; or set executor.use_gpus: false to run without GPUs" if kind == "GPU" else ""
    return UsageError(
        f"groups: together they need {sum(minimum):g} {kind} ({parts}), Ray has {available:g}; {first}lower "
        f"num_{kind.lower()}s (fractions are allowed) or min_workers in the recipe's groups, or merge groups{last}"
    )
