"""An executor compared with its bare calls: the same photos, models and settings, in turns, in one process.

Bare calls are decode, every model, and the JPEG encoder. The executor adds hashes, thumbnails, decoding of portraits for
later stages, deduplication, k-means, Parquet, tar and fsync.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hifidata.config.recipe import Recipe, load_recipe
from hifidata.config.sections import STAGE_NAMES
from hifidata.core.schema import IdentityTask, Row
from hifidata.image.crop import CropWindow, cut, map_points
from hifidata.image.decode import decode
from hifidata.image.encode import encode_jpeg
from hifidata.models import registry
from hifidata.run.plan import open_source
from hifidata.run.requirements import weights_of
from hifidata.run.worker import Worker
from hifidata.sources.base import Reader
from hifidata.stages.base import main_face
from hifidata.stages.watermark import face_region
from hifidata.store.fragments import read_rows
from hifidata.store.layout import DatasetFolder

RECIPES = Path(__file__).resolve().parent.parent / "pipelines"
ROUNDS = 3
"""Measurements of each identity, in turns; the fastest counts, because a busy machine can only add time."""

T = TypeVar("T")
Times = NDArray[np.float64]
"""(2,) wall time and CPU time of this process, in seconds."""


class Overhead(NamedTuple):
    """Times of the executor, and of each bare call by name."""

    executor: Times
    bare: dict[str, Times]

    @property
    def all_bare(self) -> Times:
        """Sum of all bare calls."""
        return np.sum(list(self.bare.values()), axis=0)


def measured(recipe: str, photos: Path, variables: Mapping[str, str] | None = None) -> Overhead:
    """Measure a recipe of ``pipelines/`` in a new process with one thread and cold caches."""
    (overhead,) = measured_at_once(recipe, photos, 1, variables)
    return overhead


def measured_at_once(
    recipe: str, photos: Path, n_processes: int, variables: Mapping[str, str] | None = None
) -> list[Overhead]:
    """Measure a recipe in several parallel processes, each with all photos, as workers share a machine.

    Raises:
        CalledProcessError: a process failed; its output is on stderr.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | dict(variables or {})
    command = [sys.executable, "-m", "benchmarks.overhead", recipe, str(photos)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(n_processes)
    ]
    answers = [process.communicate()[0] for process in running]
    for process in running:
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    found = [json.loads(answer.splitlines()[-1]) for answer in answers]
    return [
        Overhead(np.array(executor), {name: np.array(times) for name, times in bare.items()})
        for executor, bare in found
    ]


def part_rows(overhead: Overhead) -> Iterator[tuple[str, str, str]]:
    """Yield table rows with the share of each bare call, longest first."""
    total_s = overhead.all_bare[0]
    for name, (wall_s, _) in sorted(overhead.bare.items(), key=lambda item: -item[1][0]):
        yield f"   of the bare calls, {name}", f"{wall_s / total_s:.1%}", ""


def open_recipe(name: str, photos: Path) -> Recipe:
    """Load a recipe of ``pipelines/`` for a folder of photos."""
    return load_recipe(RECIPES / f"{name}.yaml", [f"source.path={photos}", "executor.kind=local"])


def missing_weights(recipe: Recipe) -> str:
    """Return one line with the missing model files, or "" if all exist."""
    wrong = [weight["name"] for weight in weights_of(recipe) if weight["state"] in ("missing", "altered")]
    return f"needs {', '.join(wrong)}: set HIFI_WEIGHTS to their folder" if wrong else ""


def measure(recipe: Recipe) -> Overhead:
    """Measure executor and bare calls in turns for each identity, so that both have the same load. Models are loaded before."""
    source = open_source(recipe)
    tasks = list(source.identities())
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(recipe, STAGE_NAMES, source, Path(folder))
        bare = BareCalls(recipe, source)
        worker.process(tasks[0])  # warm-up
        executor, spent = np.zeros(2), dict[str, Times]()
        for task in tasks:
            processed, called = [], []
            for _ in range(ROUNDS):
                processed.append(seconds(lambda task=task: worker.process(task))[1])
                rows = read_rows(DatasetFolder(Path(folder)).fragment_path(task.identity_id))
                called.append(bare(task, rows))
            executor += np.min(processed, axis=0)
            for name in called[0]:
                spent[name] = spent.get(name, np.zeros(2)) + np.min([times[name] for times in called], axis=0)
    return Overhead(executor, spent)


class BareCalls:
    """Repeats the model calls of an executor for an identity, without the executor.

    Args:
        recipe: recipe with the models, which are loaded as by the stages.
        source: source of the original bytes.
    """

    def __init__(self, recipe: Recipe, source: Reader) -> None:
        self._recipe = recipe
        self._source = source
        stages = ("detect", "quality", "watermark", "occlusion", "verify", "face3d")
        sections = {stage: getattr(recipe, stage) for stage in stages if getattr(recipe, stage).model is not None}
        self._models = {name: registry.load(name, section.model, section) for name, section in sections.items()}

    def __call__(self, task: IdentityTask, rows: list[Row]) -> dict[str, Times]:
        """Return the times by call. An image gets the calls whose results are in its manifest row."""
        spent: dict[str, Times] = {}
        for candidate, row in zip(task.candidates, rows, strict=True):
            if row["width_px"] is not None:
                self._call(spent, self._source.read(candidate), row)
        return spent

    def _call(self, spent: dict[str, Times], data: bytes, row: Row) -> None:
        models = self._models

        def timed(name: str, call: Callable[[], T]) -> T:
            result, times = seconds(call)
            spent[name] = spent.get(name, np.zeros(2)) + times
            return result

        rgb_u8 = timed("decode", lambda: decode(data, self._recipe.intake.limits)).rgb_u8
        timed("detect", lambda: models["detect"].detect([rgb_u8]))
        if row["quality_score"] is None:
            return
        face = main_face(row)
        box, kps, landmarks = face.xyxy_px, face.kps_px, face.landmarks_px
        timed("quality", lambda: models["quality"].score(rgb_u8, box, kps, landmarks))
        if row["text_regions"] is not None:
            region, _ = face_region(rgb_u8, box)
            timed("text", lambda: models["watermark"].find([region]))
        if row["occlusion_answer"] is not None:
            timed("occlusion", lambda: models["occlusion"].check([rgb_u8], [box]))
        if row["embedding"] is None:
            return
        timed("embed", lambda: models["verify"].embed([rgb_u8], [kps], [landmarks]))
        edges = (row[f"crop_{edge}_px"] for edge in ("x1", "y1", "x2", "y2", "shift"))
        window, side_px = CropWindow(*edges), self._recipe.crop.output_px
        portrait_u8 = timed("crop and encode", lambda: cut(rgb_u8, window, side_px))
        timed("crop and encode", lambda: encode_jpeg(portrait_u8, self._recipe.output.jpeg_quality))
        if row["face3d_model"] is not None:
            points = map_points(kps, window, side_px)
            fitted = timed("face3d", lambda: models["face3d"].fit(portrait_u8, points, None))
            timed("face3d", lambda: models["face3d"].points_px(fitted))


def seconds(call: Callable[[], T]) -> tuple[T, Times]:
    """Call a function, and return its result, wall time and CPU time."""
    before = np.array([time.perf_counter(), time.process_time()])
    result = call()
    return result, np.array([time.perf_counter(), time.process_time()]) - before


if __name__ == "__main__":
    overhead = measure(open_recipe(sys.argv[1], Path(sys.argv[2])))
    answer = overhead.executor.tolist(), {name: times.tolist() for name, times in overhead.bare.items()}
    sys.stdout.write(json.dumps(answer) + "\n")
