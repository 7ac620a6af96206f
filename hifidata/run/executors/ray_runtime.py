"""Start of Ray on this machine, connection to a running cluster, and suppression of Ray's own output."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO, cast

import ray

from hifidata.config.recipe import Recipe
from hifidata.core.errors import HifiError, UsageError
from hifidata.core.filenames import escaped
from hifidata.weights.search_path import CACHE_VARIABLE, FOLDER_VARIABLE

QUIET_ENV = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
WEIGHTS_VARIABLES = (FOLDER_VARIABLE, CACHE_VARIABLE)
"""Environment variables that workers inherit, so that they find model files in the driver's folders. On a cluster, all machines
must share these folders."""


@contextmanager
def running_ray(recipe: Recipe, address: str | None) -> Iterator[None]:
    """Start Ray or join a cluster for the block. An initialised Ray is used and not shut down.

    Args:
        recipe: resolved recipe.
        address: address of a running cluster, auto or HOST:PORT; None starts Ray on this machine.

    Raises:
        HifiError: Ray does not start.
        UsageError: the cluster cannot be joined, or a group's environment cannot be created.
    """
    started_here = not ray.is_initialized()
    with redirect_stdout(cast(TextIO, _ThisThreadOnly(sys.stdout))):
        if started_here:
            _require_unicode_arguments()
            _start(recipe, address)
        try:
            yield
        finally:
            if started_here:
                ray.shutdown()


def _require_unicode_arguments() -> None:
    """Raise UsageError if an argument of this process is not UTF-8: Ray sends them to its server as text."""
    if any(escaped(word) != word for word in sys.argv):
        raise UsageError(
            "Ray does not start from a command line with bytes that are not UTF-8; make a link with another name to the folder, "
            "or pass --executor local"
        )


class _ThisThreadOnly:
    """Standard output without the output of other threads.

    A thread of Ray prints warnings to stdout, which would corrupt the JSON of --json. Errors reach this process as
    exceptions.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        return self._stream.write(text) if threading.get_ident() == self._thread else len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def environment_error(error: BaseException | None) -> UsageError | None:
    """Return the UsageError for a group's environment that Ray could not create, or None for other errors.

    Ray wraps the cause in several of its own errors.
    """
    while error is not None:
        if isinstance(error, ray.exceptions.RuntimeEnvSetupError):
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            cause = next(
                (line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "Ray states no reason"
            )
            return UsageError(
                f"groups: Ray could not create the environment of a group's runtime_env: {cause[:300]}; check the network "
                "connection, or create the environment before the run (docs/paddle.md)"
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
            with _delayed_sigint():  # Ctrl-C in a terminal also reaches Ray's processes; this process has to stop them
                _start_here(recipe, runtime_env)
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's handler would end this process without a message


@contextmanager
def _delayed_sigint() -> Iterator[None]:
    """Delay a SIGINT to the end of the block. Processes that are started in the block never receive it."""
    received = list[int]()
    # The mask blocks the signal in this thread and in child processes. Another thread may still run the handler.
    on_sigint = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, on_sigint)
    if received and callable(on_sigint):
        on_sigint(signal.SIGINT, None)


def _join(address: str, runtime_env: dict[str, Any]) -> None:
    """Join a running cluster. Raises UsageError if there is none, or if it refuses the connection."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        with _silent_stderr():
            ray.init(address=address, runtime_env=runtime_env, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, ray.exceptions.RayError) as error:  # includes Ray's ConnectionError
        reason = " ".join(str(error).split())
        raise UsageError(
            f"--address {address}: cannot join the cluster: {reason}; a cluster with token authentication needs "
            "RAY_AUTH_MODE=token"
        ) from None


def _check_environments(recipe: Recipe) -> None:
    """Raise UsageError if this machine cannot create a group's environment. Ray itself would retry without end."""
    for group in recipe.worker_groups:
        python = str(group.runtime_env.get("py_executable", ""))
        if python and shutil.which(python.split()[0]) is None:
            raise UsageError(
                f"groups: {group.name}: py_executable {python} does not exist or is not executable; create that environment "
                "first (docs/paddle.md)"
            )
        if group.runtime_env.keys() & {"pip", "uv"} and importlib.util.find_spec("virtualenv") is None:
            raise UsageError(
                f"groups: {group.name}: Ray needs virtualenv for a group with its own packages; run `pip install virtualenv`, "
                "or set py_executable to an existing environment (docs/paddle.md)"
            )


def _start_here(recipe: Recipe, runtime_env: dict[str, Any]) -> None:
    # Ray's C++ code writes to stderr without Python's logging. Errors still reach this process as exceptions.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        with _silent_stderr():
            ray.init(
                address="local",  # ignores RAY_ADDRESS: only --address selects a cluster
                num_cpus=recipe.executor.workers or os.cpu_count(),
                include_dashboard=False,
                object_store_memory=recipe.executor.object_store_bytes,
                logging_level=logging.ERROR,
                log_to_driver=False,
                runtime_env=runtime_env,
            )
    except Exception as error:  # Ray raises the base class if a node does not start in time
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
