"""The ``ray`` executor: Ray Data, one row and one block per identity, one pool of actors per worker group."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from hifidata.config.recipe import Recipe
from hifidata.core.errors import HifiError, UsageError
from hifidata.models.runtime import device
from hifidata.run.devices import may_use_gpu
from hifidata.run.executors.crash_guard import CrashGuard
from hifidata.run.executors.input import feed, open_reader
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
from hifidata.weights.search_path import CACHE_VARIABLE, FOLDER_VARIABLE

COLUMN = "identity_batch"
FAILED = "failed"
"""Whether the batch column holds an error instead. Exceptions would reach the driver as text inside Ray's own, if at all."""
QUIET_ENV = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
WEIGHTS_VARIABLES = (FOLDER_VARIABLE, CACHE_VARIABLE)
"""Workers look for model files where the driver found them; on a cluster that is a folder all machines share."""


class PendingIdentities(Datasource):
    """Lists the source, or crawls it, inside Ray: one row and one block per identity."""

    def __init__(self, recipe: Recipe, pending: frozenset[str], out: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._out = out
        self._recipe_json = recipe.model_dump_json()
        self._pending = pending

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown: nobody has read the candidates yet."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """One task: a source is listed in order, and hosts are treated with manners, by one reader."""
        recipe_json, pending, out = self._recipe_json, self._pending, self._out

        def read() -> Iterator[pa.Table]:
            """One block per person; an error of ours is the last."""
            try:
                with closing(feed(Recipe.model_validate_json(recipe_json), pending, out)) as tasks:
                    for task in tasks:
                        yield _block(task_to_bytes(task))
            except CARRIED_ERRORS as error:
                yield _block(error_to_bytes(error), failed=True)

        return [ReadTask(read, BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None))]


def _block(message: bytes, failed: bool = False) -> pa.Table:
    return pa.table({COLUMN: pa.array([message], pa.large_binary()), FAILED: [failed]})


class GroupActor:
    """One process of a worker group; Ray Data calls it with one identity at a time.

    An error that ends the run, of its models or later, is its answer to whatever it is called with from then on.
    """

    def __init__(self, recipe_json: str, position: int, out: str) -> None:
        recipe = Recipe.model_validate_json(recipe_json)
        groups = recipe.worker_groups
        self._is_first, self._is_last = position == 0, position == len(groups) - 1
        self._deaths = CrashGuard(DatasetFolder(Path(out)).deaths / str(position), _name_with_models(recipe, position))
        self._error = b""
        own_id = ray.get_runtime_context().get_actor_id()  # Ray keeps it when it starts a dead worker again
        if not may_use_gpu(recipe, groups[position].stages):
            os.environ[device.VISIBLE] = ""  # Ray leaves them in sight of workers that asked for none
        try:
            with self._deaths.at(f"loading-{own_id}", "loading"):
                self._worker = Worker(recipe, groups[position].stages, open_reader(recipe, Path(out)), Path(out))
        except CARRIED_ERRORS as error:
            self._error = error_to_bytes(error)

    def __call__(self, batch: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, list[Any]]:
        """One identity in; its batch out, or its counters (JSON) once it is committed, or the error that ended it."""
        (message,), (failed,) = batch[COLUMN], batch[FAILED]
        if failed:
            return {COLUMN: [message], FAILED: [True]}
        if not self._error:
            try:
                return {COLUMN: [self._work(message)], FAILED: [False]}
            except CARRIED_ERRORS as error:
                self._error = error_to_bytes(error)
        return {COLUMN: [self._error], FAILED: [True]}

    def _work(self, message: bytes) -> bytes:
        make_sample = self._worker.make_sample
        batch = (
            self._worker.open(task_from_bytes(message)) if self._is_first else batch_from_bytes(message, make_sample)
        )
        task = batch.task
        with self._deaths.at(task.identity_id, f"at work on {task.identity_name!r}"):
            done = self._worker.run(batch)
            return (
                json.dumps(asdict(self._worker.commit(done))).encode()
                if self._is_last
                else batch_to_bytes(done, self._worker.columns)
            )


def _name_with_models(recipe: Recipe, position: int) -> str:
    group = recipe.worker_groups[position]
    models = [
        f"{stage} {model}" for stage, runs, model in stage_table(recipe) if stage in group.stages and runs and model
    ]
    return f"{group.name} ({', '.join(models) or 'no models'})"


def run_ray(recipe: Recipe, pending: frozenset[str], out: Path, address: str | None) -> Generator[Outcome, None, None]:
    """Commits identities as workers finish them; the order of outcomes is not the order of the source.

    Args:
        recipe: resolved.
        pending: ids of the identities to do.
        out: dataset folder that every worker can write to.
        address: a running cluster ("auto", "ray://..."); None starts Ray on this machine for this run.

    Raises:
        HifiError, OSError: what a worker raised, as the local executor would; or a worker died again and again.
        UsageError: the groups do not fit the cluster, or a group's environment cannot be made.
    """
    started_here = not ray.is_initialized()
    deaths = DatasetFolder(out).deaths
    shutil.rmtree(deaths, ignore_errors=True)  # of a run that was killed
    with redirect_stdout(cast(TextIO, _ThisThreadOnly(sys.stdout))):
        if started_here:
            _start(recipe, address)
        try:
            yield from _stream(recipe, pending, out)
        except ray.exceptions.RayError as error:
            raise _environment_error(error) or error from None
        finally:
            shutil.rmtree(deaths, ignore_errors=True)
            if started_here:
                ray.shutdown()


class _ThisThreadOnly:
    """Standard output without lines that other threads print.

    A thread of Ray prints warnings there, before the document of --json; errors reach this process as exceptions.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        return self._stream.write(text) if threading.get_ident() == self._thread else len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _environment_error(error: BaseException | None) -> UsageError | None:
    """What to say where Ray could not make a group's environment, which it wraps in errors of its own."""
    while error is not None:
        if isinstance(error, ray.exceptions.RuntimeEnvSetupError):
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            cause = next(
                (line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no reason given"
            )
            return UsageError(
                f"groups: Ray could not make the environment of a group's runtime_env: {cause[:300]}; is there a network? "
                "docs/paddle.md says how to make it beforehand"
            )
        error = getattr(error, "cause", None) or error.__cause__
    return None


def _start(recipe: Recipe, address: str | None) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    passed_on = {name: os.environ[name] for name in WEIGHTS_VARIABLES if name in os.environ}
    runtime_env: dict[str, Any] = {"env_vars": QUIET_ENV | passed_on}
    if not address:
        _check_environments(recipe)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            _join(address, runtime_env)
        else:
            with _sigint_later():  # a terminal sends Ctrl-C to Ray's processes, too: stopping them is our part
                _start_here(recipe, runtime_env)
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts its own in place, which would end us without a word


@contextmanager
def _sigint_later() -> Iterator[None]:
    """A SIGINT takes effect at the end; processes that are started meanwhile never get one."""
    came = list[int]()
    # Blocked in this thread and, by inheritance, in the processes; other threads may still take it, so it is noted, too.
    on_sigint = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, on_sigint)
    if came and callable(on_sigint):
        on_sigint(signal.SIGINT, None)


def _join(address: str, runtime_env: dict[str, Any]) -> None:
    """Joins a running cluster; raises UsageError where there is none, or it does not let us in."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        with _silent_stderr():
            ray.init(address=address, runtime_env=runtime_env, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, ray.exceptions.RayError) as error:  # Ray's ConnectionError among them
        reason = " ".join(str(error).split())
        raise UsageError(
            f"--address {address}: cannot join the cluster: {reason}; one with token authentication wants RAY_AUTH_MODE=token"
        ) from None


def _check_environments(recipe: Recipe) -> None:
    """Raises UsageError where a group's environment cannot be made on this machine; Ray would try again for ever."""
    for group in recipe.worker_groups:
        python = str(group.runtime_env.get("py_executable", ""))
        if python and shutil.which(python.split()[0]) is None:
            raise UsageError(
                f"groups: {group.name}'s py_executable {python} cannot be run; make that environment first (docs/paddle.md)"
            )
        if group.runtime_env.keys() & {"pip", "uv"} and importlib.util.find_spec("virtualenv") is None:
            raise UsageError(
                f"groups: {group.name} has packages of its own, for which Ray needs virtualenv; `pip install virtualenv`, or "
                "name an environment that is there by py_executable (docs/paddle.md)"
            )


def _start_here(recipe: Recipe, runtime_env: dict[str, Any]) -> None:
    # Its C++ side writes to stderr past Python's logging, even to say that it was told to be quiet. What goes wrong
    # still reaches us as exceptions.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        with _silent_stderr():
            ray.init(
                address="local",  # whatever RAY_ADDRESS says: a cluster is used when it is asked for
                num_cpus=recipe.executor.workers or os.cpu_count(),
                include_dashboard=False,
                object_store_memory=recipe.executor.object_store_bytes,
                logging_level=logging.ERROR,
                log_to_driver=False,
                runtime_env=runtime_env,
            )
    except Exception as error:
        ray.shutdown()
        raise HifiError(
            f"Ray did not start on this machine: {' '.join(str(error).split())}; run the same command again when the machine is "
            "less busy, lower executor.workers, or pass --executor local"
        ) from error


@contextmanager
def _silent_stderr() -> Iterator[None]:
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _stream(recipe: Recipe, pending: frozenset[str], out: Path) -> Iterator[Outcome]:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_operator_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.target_max_block_size = 1  # any row fills a block: a block goes whole to one actor
    # The reader only lists; asking for a CPU would make it wait for one that the actors never give back.
    data: ray.data.Dataset = ray.data.read_datasource(
        PendingIdentities(recipe, pending, out), override_num_blocks=1, num_cpus=0
    )
    cluster: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    sizes = pool_sizes(recipe, len(pending), cluster)
    for position, group in enumerate(recipe.worker_groups):
        data = data.map_batches(
            GroupActor,
            batch_size=1,
            batch_format="numpy",
            # A pool of fixed size: growing waits for a queue that whole identities, being few, may never form.
            compute=ActorPoolStrategy(min_size=sizes[position], max_size=sizes[position]),
            fn_constructor_args=(recipe.model_dump_json(), position, str(out)),
            num_cpus=group.num_cpus,
            num_gpus=group.num_gpus or None,
            runtime_env=group.runtime_env or None,
        )
    for row in data.iter_rows():
        if row[FAILED]:
            raise error_from_bytes(row[COLUMN])
        yield Outcome(**json.loads(row[COLUMN]))


def pool_sizes(recipe: Recipe, n_pending: int, cluster: Mapping[str, float]) -> list[int]:
    """How many workers each group gets: all groups run at once, so they share the cluster.

    Every group starts from ``min_workers``; then they take turns adding one while it fits and no limit is reached.

    Args:
        recipe: resolved.
        n_pending: identities to do; more workers than that would idle.
        cluster: resources Ray reports, by name.

    Raises:
        UsageError: the groups' minimum does not fit; Ray would wait for ever.
    """
    groups = recipe.worker_groups
    free = {"CPU": cluster.get("CPU", 0.0), "GPU": cluster.get("GPU", 0.0)}
    needs = [{"CPU": group.num_cpus, "GPU": group.num_gpus} for group in groups]
    sizes = [group.min_workers for group in groups]
    for kind in free:
        free[kind] -= sum(size * need[kind] for size, need in zip(sizes, needs, strict=True))
        if free[kind] < -1e-6:
            each = ((group.name, size * need[kind]) for group, size, need in zip(groups, sizes, needs, strict=True))
            more = "raise executor.workers, or " if kind == "CPU" and recipe.executor.workers else ""
            raise UsageError(
                f"groups: all of them at once need {cluster.get(kind, 0.0) - free[kind]:g} {kind} "
                f"({', '.join(f'{name} {n:g}' for name, n in each if n)}), Ray has {cluster.get(kind, 0.0):g}; "
                f"{more}lower num_{kind.lower()}s (fractions will do) or min_workers in the recipe's groups, or merge groups"
                f"{'; executor.use_gpus: false runs without' if kind == 'GPU' else ''}"
            )
    limits = [
        min(limit for limit in (n_pending, group.max_workers, recipe.executor.workers) if limit is not None)
        for group in groups
    ]
    growing = [position for position, need in enumerate(needs) if any(need.values())]
    while growing:
        for position in list(growing):
            fits = all(need <= free[kind] + 1e-6 for kind, need in needs[position].items())
            if not fits or sizes[position] >= limits[position]:
                growing.remove(position)
                continue
            sizes[position] += 1
            for kind, need in needs[position].items():
                free[kind] -= need
    return sizes
