"""The executors on ``folder.yaml``: against the bare calls they are made of, each other, and their memory budget."""

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
"""How often each whole run is timed; the quickest counts."""


def rows(photos: Path) -> Iterator[tuple[str, str, str]]:
    """(what, measured, goal) lines of the table."""
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
    """What the photos cost `local` with one worker over what they cost `ray` with two.

    A cost is what three times the photos take longer than the photos once, so start-up cancels out. All four runs go in
    turns and the quickest of each counts: a busy machine only ever adds.
    """
    least_s: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        people = {copies: _split(photos, Path(folder) / f"photos-{copies}", copies) for copies in (1, 3)}
        for turn in range(TURNS):
            for copies, root in people.items():
                for executor, workers in (("local", 1), ("ray", 2)):
                    out = Path(folder) / f"{executor}-{copies}-{turn}"
                    took_s = _run_seconds(root, out, executor, workers)
                    least_s[executor, copies] = min(took_s, least_s.get((executor, copies), took_s))
    return (least_s["local", 3] - least_s["local", 1]) / (least_s["ray", 3] - least_s["ray", 1])


def _split(photos: Path, root: Path, copies: int) -> Path:
    """The photos as people of five each: work that two workers can share evenly."""
    files = sorted(path for path in photos.rglob("*") if path.is_file())
    for number, path in enumerate(files * copies):
        person = root / f"{number // 5:04d}"
        person.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, person / f"{number % 5}{path.suffix}")
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
    """Of a whole local run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.pipeline", str(photos)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def memory(photos: Path) -> int:
    """Peak resident bytes of a whole local run in this process."""
    from hifidata.run.run import RunOptions, run

    with tempfile.TemporaryDirectory() as folder:
        run(open_recipe("folder", photos), RunOptions(Path(folder) / "out"), lambda progress: None)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.stdout.write(f"{memory(Path(sys.argv[1]))}\n")
