"""The executors on ``folder.yaml``: compared with their bare calls, with each other, and with their memory budget."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.overhead import RECIPES, measured, open_recipe, part_rows, seconds

MEMORY_BUDGET_BYTES = 2 * 2**30
HELP_BUDGET_S = 0.5
TURNS = 2
"""Measurements of each complete run; the fastest counts."""


def rows(photos: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the table's rows (what, measured, goal)."""
    overhead = measured("folder", photos)
    wall, cpu = overhead.executor / overhead.all_bare
    yield "local executor over bare decode + model + encode calls", f"{wall:.3f}", "at most 1.10"
    yield "   the same in CPU time", f"{cpu:.3f}", ""
    yield from part_rows(overhead)
    yield "ray with 2 workers over local with 1, start-up excluded", f"{_speedup(photos):.2f}", "at least 1.7"
    yield "hifidata --help over its budget of 0.5 s", f"{_help_seconds() / HELP_BUDGET_S:.2f}", "at most 1.0"
    peak = _peak_bytes(photos) / MEMORY_BUDGET_BYTES
    yield "peak memory of the local run over 2 GiB", f"{peak:.2f}", "at most 1.0"


def _speedup(photos: Path) -> float:
    """Return the time of `local` with one worker over the time of `ray` with two.

    Each time is the difference between a run on three copies of the photos and a run on one copy. So the start cancels
    out. The four runs are measured in turns. The fastest run counts, because a busy machine can only add time.
    """
    least_s: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        roots = {copies: _split(photos, Path(folder) / f"photos-{copies}", copies) for copies in (1, 3)}
        for turn in range(TURNS):
            for copies, root in roots.items():
                for executor, workers in (("local", 1), ("ray", 2)):
                    out = Path(folder) / f"{executor}-{copies}-{turn}"
                    took_s = _run_seconds(root, out, executor, workers)
                    least_s[executor, copies] = min(took_s, least_s.get((executor, copies), took_s))
    return (least_s["local", 3] - least_s["local", 1]) / (least_s["ray", 3] - least_s["ray", 1])


def _split(photos: Path, root: Path, copies: int) -> Path:
    """Copy the photos to identities of five photos each, which two workers can share evenly."""
    files = sorted(path for path in photos.rglob("*") if path.is_file())
    for number, path in enumerate(files * copies):
        identity = root / f"{number // 5:04d}"
        identity.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, identity / f"{number % 5}{path.suffix}")
    return root


def _run_seconds(photos: Path, out: Path, executor: str, workers: int) -> float:
    recipe = str(RECIPES / "folder.yaml")
    command = [sys.executable, "-m", "hifidata", "run", recipe, "--out", str(out), "--executor", executor]
    command += ["--set", f"source.path={photos}", "--set", f"executor.workers={workers}"]
    return _wall_seconds(command)


def _help_seconds() -> float:
    command = [sys.executable, "-m", "hifidata", "--help"]
    return min(_wall_seconds(command) for _ in range(5))


def _wall_seconds(command: list[str]) -> float:
    return float(seconds(lambda: subprocess.run(command, capture_output=True, check=True))[1][0])


def _peak_bytes(photos: Path) -> int:
    """Return the peak resident bytes of a complete local run in a new process."""
    command = [sys.executable, "-m", "benchmarks.pipeline", str(photos)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def memory(photos: Path) -> int:
    """Run the recipe in this process, and return the peak resident bytes."""
    from hifidata.run.run import RunOptions, run

    with tempfile.TemporaryDirectory() as folder:
        run(open_recipe("folder", photos), RunOptions(Path(folder) / "out"), lambda progress: None)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.stdout.write(f"{memory(Path(sys.argv[1]))}\n")
