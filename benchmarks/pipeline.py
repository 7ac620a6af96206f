"""The executors against the bare calls they are made of, against each other, and against their memory budget."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).resolve().parent.parent / "pipelines" / "folder.yaml"
MEMORY_BUDGET_BYTES = 2 * 2**30
HELP_BUDGET_S = 0.5
ROUNDS = 2
"""How often each thing is timed, in turns; the quickest counts."""


def rows(photos: Path) -> Iterator[tuple[str, str, str]]:
    """(what, measured, goal) lines of the table."""
    bare, local, shares = _alone("overhead", photos)
    yield "local executor over bare decode + model + encode calls", f"{local / bare:.3f}", "at most 1.10"
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        yield f"   of the bare calls, {name}", f"{share:.1%}", ""
    yield "ray with 2 workers over local with 1, start-up excluded", f"{_speedup(photos):.2f}", "at least 1.7"
    yield "hifidata --help over its budget of 0.5 s", f"{_help_seconds() / HELP_BUDGET_S:.2f}", "at most 1.0"
    yield (
        "peak memory of the local run over 2 GiB",
        f"{_alone('memory', photos) / MEMORY_BUDGET_BYTES:.2f}",
        "at most 1.0",
    )


def _alone(what: str, photos: Path) -> Any:
    """Runs one measurement in a process of its own, so that none inherits another's memory or warm caches."""
    command = [sys.executable, "-m", "benchmarks.pipeline", what, str(photos)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def overhead(photos: Path) -> tuple[float, float, dict[str, float]]:
    """(bare seconds, executor seconds, share of each bare call), in turns over the same photos and models."""
    from hifidata.recipe import STAGE_NAMES
    from hifidata.run.plan import open_source
    from hifidata.run.work import Worker

    recipe = _recipe(photos)
    tasks = list(open_source(recipe).identities())
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(recipe, STAGE_NAMES, open_source(recipe), Path(folder))
        worker.process(tasks[0])  # warm-up
        local, bare = 0.0, dict[str, float]()
        for task in tasks:  # person by person in turns, so that both see the same weather
            local += min(_seconds(lambda task=task: worker.process(task)) for _ in range(ROUNDS))
            calls = [_bare_calls(recipe, open_source(recipe), task, Path(folder)) for _ in range(ROUNDS)]
            _add(bare, min(calls, key=lambda spent: sum(spent.values())))
    total = sum(bare.values())
    return total, local, {name: seconds / total for name, seconds in bare.items()}


def _bare_calls(recipe: Any, source: Any, task: Any, out: Path) -> dict[str, float]:
    """The model calls the executor made for this person, made again with nothing around them."""
    import numpy as np

    from hifidata.image.crop import cut
    from hifidata.image.decode import decode
    from hifidata.image.encode import encode_jpeg
    from hifidata.stages.base import main_face
    from hifidata.stages.watermark import face_region
    from hifidata.store.folder import DatasetFolder
    from hifidata.store.manifest import read_rows

    models = _models()
    spent = dict.fromkeys(("decode", "detect", "quality", "text", "embed", "encode"), 0.0)
    stored = read_rows(DatasetFolder(out).fragment_path(task.identity_id))
    for candidate, row in zip(task.candidates, stored, strict=True):
        data = source.read(candidate)
        if row["width_px"] is None:
            continue
        rgb = _timed(spent, "decode", lambda data=data: decode(data, recipe.intake.limits)).rgb_u8
        _timed(spent, "detect", lambda rgb=rgb: models["detect"].detect([rgb]))
        if row["quality_score"] is None:
            continue
        face = main_face(row)
        points = (face.xyxy_px, face.kps_px, face.landmarks_px)
        _timed(spent, "quality", lambda rgb=rgb, points=points: models["quality"].score(rgb, *points))
        if row["text_regions"] is None:
            continue
        region, _ = face_region(rgb, face.xyxy_px)
        _timed(spent, "text", lambda region=region: models["watermark"].find([np.ascontiguousarray(region)]))
        if row["embedding"] is None:
            continue
        _timed(
            spent, "embed", lambda rgb=rgb, face=face: models["verify"].embed([rgb], [face.kps_px], [face.landmarks_px])
        )
        window = _window(row)
        _timed(
            spent,
            "encode",
            lambda rgb=rgb, w=window: encode_jpeg(cut(rgb, w, recipe.crop.output_px), recipe.output.jpeg_quality),
        )
    return spent


def _window(row: dict[str, Any]) -> Any:
    from hifidata.image.crop import CropWindow

    return CropWindow(row["crop_x1_px"], row["crop_y1_px"], row["crop_x2_px"], row["crop_y2_px"], row["crop_shift_px"])


_LOADED: dict[str, Any] = {}


def _models() -> dict[str, Any]:
    from hifidata import backends

    if not _LOADED:
        names = {"detect": "dlib_hog", "quality": "iso29794", "watermark": "rapidocr", "verify": "dlib_resnet"}
        _LOADED.update({stage: backends.load(stage, name) for stage, name in names.items()})
    return _LOADED


def _timed(spent: dict[str, float], name: str, call: Any) -> Any:
    began = time.perf_counter()
    result = call()
    spent[name] += time.perf_counter() - began
    return result


def _seconds(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _add(total: dict[str, float], more: dict[str, float]) -> None:
    for name, seconds in more.items():
        total[name] = total.get(name, 0.0) + seconds


def _speedup(photos: Path) -> float:
    """What the photos cost `local` with one worker over what they cost `ray` with two.

    A cost is what three times the photos take longer than the photos once, so start-up cancels out. All four runs go in
    turns and the quickest of each counts: a busy machine only ever adds.
    """
    seconds: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        people = {copies: _split(photos, Path(folder) / f"photos-{copies}", copies) for copies in (1, 3)}
        for turn in range(ROUNDS):
            for copies, root in people.items():
                for executor, workers in (("local", 1), ("ray", 2)):
                    out = Path(folder) / f"{executor}-{copies}-{turn}"
                    took = _run_seconds(root, out, executor, workers)
                    seconds[executor, copies] = min(took, seconds.get((executor, copies), took))
    return (seconds["local", 3] - seconds["local", 1]) / (seconds["ray", 3] - seconds["ray", 1])


def _split(photos: Path, root: Path, copies: int) -> Path:
    """The photos as people of five each: work that two workers can share evenly."""
    files = sorted(path for path in photos.rglob("*") if path.is_file())
    for number, path in enumerate(files * copies):
        person = root / f"{number // 5:04d}"
        person.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, person / f"{number % 5}{path.suffix}")
    return root


def _run_seconds(photos: Path, out: Path, executor: str, workers: int) -> float:
    command = [sys.executable, "-m", "hifidata.cli", "run", str(RECIPE), "--out", str(out), "--executor", executor]
    command += ["--set", f"source.path={photos}", "--set", f"executor.workers={workers}"]
    return _seconds(lambda: subprocess.run(command, capture_output=True, check=True))


def _help_seconds() -> float:
    command = [sys.executable, "-m", "hifidata.cli", "--help"]
    return min(_seconds(lambda: subprocess.run(command, capture_output=True, check=True)) for _ in range(5))


def memory(photos: Path) -> int:
    """Peak resident bytes of a whole local run in this process."""
    from hifidata.run.engine import RunOptions, run

    with tempfile.TemporaryDirectory() as folder:
        run(_recipe(photos), RunOptions(Path(folder) / "out"), lambda progress: None)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _recipe(photos: Path) -> Any:
    from hifidata.recipe import load_recipe

    return load_recipe(RECIPE, [f"source.path={photos}", "executor.kind=local"])


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    measure = {"overhead": overhead, "memory": memory}[sys.argv[1]]
    sys.stdout.write(json.dumps(measure(Path(sys.argv[2]))) + "\n")
