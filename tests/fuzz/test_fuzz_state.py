"""State files with any JSON in any place end a command in one line, without a traceback, in bounded time and memory.

``HIFI_FUZZ_ROUNDS`` sets the number of altered files; ``make fuzz`` raises it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from tests.conftest import PROJECT_ROOT

ROUNDS = int(os.environ.get("HIFI_FUZZ_ROUNDS", "40"))
MAX_SECONDS, MAX_BYTES = 300 + 5 * ROUNDS, 4 * 2**30
COMMANDS = (
    ("status",), ("check",), ("inspect", "Person_1"), ("failures", "--dropped"), ("failures", "--reason", "no_face"), ("replay",),
    ("calibrate",), ("report",),
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**400, 1.5, float("inf"), float("nan"), "", "x", "\ud800", "\x1b[2J\u202e", [], [None], ["x"], [[]],
    {}, {"x": None}, {"": {}}, [{}], {"path": "../x", "bytes": -1, "sha256": None},
)  # fmt: skip
NOT_JSON = (
    b"",
    b"{",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"\xff\xfe{}",
    b"1" * 5000,
    b"null",
    b"\x00" * 100,
    b'{"a": 1}{',
)


def place_in(node: Any, rng: random.Random) -> tuple[Any, Any]:
    """Return (object or array, key) of a random value, by a random walk from the root: every section is drawn equally often."""
    while True:
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if rng.random() < 0.4 or not isinstance(node[key], (dict, list)) or not node[key]:
            return node, key
        node = node[key]


def altered(content: Any, rng: random.Random) -> bytes:
    """Return JSON with one odd or missing value, or bytes that are no JSON."""
    if rng.random() < 0.1:
        return rng.choice(NOT_JSON)
    node, key = place_in(content, rng)
    if rng.random() < 0.2:
        del node[key]
    else:
        node[key] = rng.choice(ODD)
    return json.dumps(content).encode()


def problem_of(out: Path, command: tuple[str, ...]) -> str:
    """Run a command; return what is wrong with its end, "" for nothing."""
    from tests.factories.cli import hifidata

    try:
        done = hifidata(command[0], out, *command[1:])
    except BaseException as error:  # noqa: BLE001  # any end other than an exit code is a fault
        return f"{type(error).__name__}: {error}"
    if done.returncode not in (0, 1, 2) or (done.returncode == 2 and done.stderr.count("\n") != 1):
        return f"exit {done.returncode}: {done.stderr[:300]}"
    return "control characters" if {"\x1b", "\u202e"} & {*done.stdout, *done.stderr} else ""


def fuzz(out: Path, seed: int, rounds: int) -> list[str]:
    """Alter one state file of a dataset in each round; return the problems."""
    rng, problems = random.Random(seed), []
    files = {name: (out / name).read_bytes() for name in ("dataset.json", "state/run.json")}
    files["manifests/calibration.json"] = b'{"far": 0.01}'
    for number in range(rounds):
        name = rng.choice(list(files))
        (out / name).write_bytes(altered(json.loads(files[name]), rng))
        command = rng.choice(COMMANDS)
        if problem := problem_of(out, command):
            problems.append(f"{number}: {name}, {' '.join(command)}: {problem}: {(out / name).read_bytes()[:60]!r}")
        for restored, data in files.items():
            (out / restored).write_bytes(data)
    return problems


def test_an_altered_state_file_ends_a_command_in_one_line(tmp_path: Path) -> None:
    with tarfile.open(PROJECT_ROOT / "tests" / "fixtures" / "dataset_of_0_1_0.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))

    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.test_fuzz_state", str(tmp_path), "0", str(ROUNDS)],
        cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=MAX_SECONDS, preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


if __name__ == "__main__":
    found = fuzz(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    print("\n".join(found))
    sys.exit(bool(found))
