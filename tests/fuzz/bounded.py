"""Run a fuzz target many times in a process with bounded time and memory.

A target is a module-level function ``target(rng, folder)``. It makes hostile input from ``rng``, gives it to a parser, and
raises if the parser does not end as declared. The same seed gives the same input. ``HIFI_FUZZ_ROUNDS`` (``make fuzz``) sets
the number of rounds; ``HIFI_FUZZ_SEED`` another seed.
"""

from __future__ import annotations

import importlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PROJECT_ROOT

Target = Callable[[random.Random, Path], None]
MAX_ROUND_CPU_S = 10


def fuzz(target: Target, rounds: int, max_bytes: int = 512 * 2**20, first: int = 0) -> None:
    """Run ``target`` for some rounds. Fails with the number of the round that raised, was too slow or took too much memory.

    Args:
        target: function of a test module.
        rounds: number of rounds in the normal tests.
        max_bytes: memory beyond that of the imports.
        first: number of the first round, to repeat one.
    """
    rounds = int(os.environ.get("HIFI_FUZZ_ROUNDS", rounds))
    seed = int(os.environ.get("HIFI_FUZZ_SEED", "7"))
    arguments = [target.__module__, target.__name__, *map(str, (first, rounds, seed, max_bytes))]
    child = [sys.executable, "-c", "from tests.fuzz.bounded import main; main()", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(child, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, errors="replace")
    if done.returncode:
        last = done.stdout.rpartition("round ")[2].strip()
        pytest.fail(f"round {last} of seed {seed} ended with {done.returncode}:\n{done.stderr[-4000:]}")


def main() -> None:
    """Run the rounds that the arguments name, in the child process."""
    module, name, *numbers = sys.argv[1:]
    first, rounds, seed, max_bytes = map(int, numbers)
    target: Target = getattr(importlib.import_module(module), name)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + max_bytes,) * 2)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, also inside C code
    for number in range(first, first + rounds):
        print("round", number, flush=True)
        signal.setitimer(signal.ITIMER_PROF, MAX_ROUND_CPU_S)
        with tempfile.TemporaryDirectory() as folder:
            target(random.Random(f"{seed} {number}"), Path(folder))


def require_one_line(error: Exception) -> None:
    """Check that an error is a message for a terminal: one line, of a bounded length, valid Unicode, without controls."""
    message = str(error)
    assert message.isprintable(), ascii(message)
    assert 0 < len(message) < 5000


def damaged(rng: random.Random, data: bytes, tokens: tuple[bytes, ...] = ()) -> bytes:
    """Return a copy with some flipped, removed, repeated or inserted bytes.

    Args:
        rng: decides where.
        data: valid input.
        tokens: strings with a meaning for the parser, to insert.
    """
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(found) + 1)
        end = at + rng.choice((1, 2, 8, 100))
        match rng.randrange(5):
            case 0 if at < len(found):
                found[at] = rng.randrange(256)
            case 1:
                del found[at:end]
            case 2:
                found[at:at] = found[at:end] * rng.choice((1, 2, 50))
            case 3 if tokens:
                found[at:at] = rng.choice(tokens)
            case _:
                del found[at + rng.randrange(len(found) - at + 1) :]
    return bytes(found)
