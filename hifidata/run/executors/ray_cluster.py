"""A running Ray cluster: checks of its address, and runs that are submitted to it as jobs.

Ray Client (``ray://``) is not used, because a lost connection would end the run. A job runs on the cluster itself.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shlex
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import yaml

from hifidata.core.errors import UsageError

CONNECT_S = 5.0
POLL_S = 1.0
RECIPE_NAME = "recipe.yaml"
PATH_KEYS = ("path", "names", "folder", "file")
"""Recipe keys that contain a path, in all sections."""

_STOPPED = 130


@dataclass(frozen=True)
class Job:
    """A run on a cluster.

    Attributes:
        id: Ray's id of the job.
        exit_code: exit code of ``hifidata run``; None if the caller did not wait for the end.
        message: Ray's message about a job whose run did not start or was stopped.
    """

    id: str
    exit_code: int | None
    message: str = ""


def require_address(address: str) -> None:
    """Raise UsageError if the address is malformed or does not answer. Ray itself would retry for minutes."""
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise UsageError(
            f"--address {address}: Ray Client is not supported; pass auto or HOST:PORT on a machine of the cluster, or use "
            "`hifidata submit` on another machine (docs/cluster.md)"
        )
    host, _, port = address.rpartition(":")
    if not re.fullmatch(r"[\w.\-]+|\[[0-9a-fA-F:]+\]", host) or not re.fullmatch(r"\d{1,5}", port):
        raise UsageError(f"--address {address}: expected auto or HOST:PORT, for example head:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(
            f"--address {address}: no answer ({error}); check the address, and whether the cluster is running"
        ) from None


def require_absolute_paths(recipe: Mapping[str, Any], out: str) -> None:
    """Raise UsageError for relative paths, which the machines of a cluster resolve differently."""
    for name, value in [("--out", out), *_paths(recipe)]:
        if not value.startswith("/"):
            raise UsageError(
                f"{name}: expected an absolute path that all machines of the cluster share, got the relative path {value}"
            )


def _paths(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{key}.")
        elif key in PATH_KEYS and isinstance(value, str):
            yield f"{prefix}{key}", value


def submit(
    recipe: Mapping[str, Any],
    arguments: Sequence[str],
    address: str,
    on_log: Callable[[str], None],
    wait: bool = True,
) -> Job:
    """Run ``hifidata run`` as a job on a cluster, with the Python and the ``hifidata`` of the cluster.

    Args:
        recipe: content of the recipe file with applied overrides; the job contains it.
        arguments: arguments of ``hifidata run`` other than the recipe and the address.
        address: URL of the cluster's dashboard, ``http://head:8265``.
        on_log: receives the output of the run.
        wait: wait for the end of the job. An interrupt then stops the job.

    Raises:
        UsageError: the cluster does not answer, or refuses the job.
        KeyboardInterrupt: the wait was interrupted; the job is stopped.
    """
    client = _client(address)
    with tempfile.TemporaryDirectory(prefix="hifidata-job-") as name:
        Path(name, RECIPE_NAME).write_text(yaml.safe_dump(dict(recipe), sort_keys=False), encoding="utf-8")
        command = ["python", "-m", "hifidata", "run", RECIPE_NAME, *arguments, "--address", "auto"]
        try:
            job_id = client.submit_job(entrypoint=shlex.join(command), runtime_env={"working_dir": name})
        except (RuntimeError, OSError) as error:
            raise UsageError(f"--address {address}: the cluster refuses the job: {_first_line(error)}") from error
    if not wait:
        return Job(job_id, None)
    try:
        asyncio.run(_follow(client, job_id, on_log))
        while not client.get_job_status(job_id).is_terminal():
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        client.stop_job(job_id)
        raise
    return _ended(client, job_id)


def _client(address: str) -> Any:
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    for kind in JobSubmissionClient.__mro__[:-1]:
        logging.getLogger(kind.__module__).setLevel(logging.ERROR)
    try:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or (parts.port is not None and parts.port < 1):
            raise ValueError("expected the URL of the cluster's dashboard, for example http://head:8265")
        return JobSubmissionClient(address)
    except (ValueError, RuntimeError, OSError, RayError, requests.RequestException) as error:
        raise UsageError(f"--address {address}: {_first_line(error)}") from None


async def _follow(client: Any, job_id: str, on_log: Callable[[str], None]) -> None:
    async for lines in client.tail_job_logs(job_id):
        on_log(lines)


def _ended(client: Any, job_id: str) -> Job:
    info = client.get_job_info(job_id)
    if str(info.status.value) == "STOPPED":
        return Job(job_id, _STOPPED, "stopped")
    code = info.driver_exit_code
    if code is None:  # the run did not start
        return Job(job_id, 1, _first_line(info.message or "Ray states no reason"))
    return Job(job_id, code if 0 <= code <= 255 else 1)


def _first_line(error: object) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
