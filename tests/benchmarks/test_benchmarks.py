"""The benchmarks: sections by name, one line for missing inputs, and bare calls of every model."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from benchmarks import paper
from benchmarks.overhead import RECIPES, Overhead, measure
from hifidata.config.recipe import Recipe, load_recipe
from hifidata.models.runtime import device

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=variables, check=False)


def test_an_unknown_section_is_a_usage_error_that_lists_the_sections() -> None:
    refused = bench("papers")
    assert refused.returncode == 2
    assert "unknown section papers; expected pipeline, paper" in refused.stderr


def test_sections_without_photos_or_shards_report_it_and_the_others_run(tmp_path: Path) -> None:
    done = bench("paper", "loader", "--shards", str(tmp_path), HIFI_ASSETS=str(tmp_path), COLUMNS="300")
    assert done.returncode == 0, done.stderr
    assert f"no photos at {tmp_path}/faces/sports-raw: set HIFI_ASSETS" in done.stdout
    assert f"{tmp_path}: no tar found" in done.stdout


def test_every_model_of_the_small_paper_recipe_is_among_its_bare_calls(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIFI_WEIGHTS", str(assets / "weights"))
    person = tmp_path / "photos" / "person_0"
    person.mkdir(parents=True)
    for photo in sorted((assets / "faces" / "photomaker").glob("*/*"))[-2:]:
        (person / photo.name).write_bytes(photo.read_bytes())
    overrides = [f"source.path={person.parent}", "executor.kind=local", "verify.min_images=1"]
    overhead = measure(load_recipe(RECIPES / "paper-cpu-small.yaml", overrides))
    models = {"detect", "quality", "text", "occlusion", "embed", "face3d"}
    assert set(overhead.bare) == models | {"decode", "crop and encode"}
    assert all((times > 0).all() for times in overhead.bare.values())
    assert (overhead.executor > 0).all()


@pytest.fixture
def small_paper(assets: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("HIFI_WEIGHTS", str(assets / "weights"))
    return load_recipe(RECIPES / "paper-cpu-small.yaml", ["source.path=photos"])


def seconds(wall_s: float) -> np.ndarray:
    return np.array([wall_s, wall_s])


def overhead(stage_s: float, run_s: float) -> Overhead:
    names = ("decode", "detect", "quality", "text", "occlusion", "embed", "face3d")
    return Overhead(seconds(run_s), {name: seconds(stage_s) for name in names})


@pytest.mark.parametrize(
    ("listed", "driver", "why"),
    [
        ([], False, "the installed onnxruntime has no CUDA"),
        ([device.CUDA], False, "ONNX Runtime sees no GPU"),
        ([device.CUDA], True, r"\S+: onnxruntime .* cannot use the GPU"),
    ],
)
def test_without_a_usable_gpu_the_comparison_prints_the_reason_with_mocked_providers(
    listed: list[str], driver: bool, why: str, small_paper: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ort.InferenceSession
    monkeypatch.setattr(ort, "get_available_providers", lambda: [*listed, device.CPU])
    monkeypatch.setattr(device, "has_driver", lambda: driver)
    monkeypatch.setattr(
        ort, "InferenceSession", lambda path, options, providers: real(path, options, providers=providers[-1:])
    )
    monkeypatch.delenv(device.VISIBLE, raising=False)
    ((what, found, goal),) = paper._gpu_rows(small_paper, Path("photos"), overhead(1, 1))
    assert "every ONNX stage on the GPU over those on its host's CPU" in what
    assert re.match(f"not measured: {why}", found)
    assert goal == ""


def test_the_gpu_is_compared_with_all_cores_for_every_onnx_stage_with_mocked_times(
    small_paper: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The times: 1 s on the GPU, 8 s on one core, 10 s on each of four cores that share the machine."""
    calls: list[tuple[int, object]] = []

    def at_once(recipe: str, photos: Path, n: int, variables: object = None) -> list[Overhead]:
        calls.append((n, variables))
        return [overhead(10, 20) if variables else overhead(1, 5)] * n

    monkeypatch.setattr(paper, "no_gpu", lambda recipe: "")
    monkeypatch.setattr(paper.os, "sched_getaffinity", lambda process: range(4))
    monkeypatch.setattr(paper, "measured_at_once", at_once)
    monkeypatch.setattr(paper, "measured", lambda recipe, photos: overhead(1, 5))
    table = {what.strip(): found for what, found, _ in paper._gpu_rows(small_paper, Path("photos"), overhead(8, 16))}
    assert calls == [(4, None), (4, paper.NO_GPU)]
    stages = ["detect", "text", "occlusion", "embed", "face3d"]
    assert table.pop(f"{paper.ON_GPU} over those on all 4 cores of its host") == "2.50 (over one core: 8.0)"
    assert [table.pop(name) for name in stages] == ["2.50 (over one core: 8.0)"] * 5
    assert table == {
        "the whole run, one worker with the GPU": "1.00 (over one core: 3.2)",
        "the whole run, 4 workers that share the GPU": "4.00 (over one core: 12.8)",
    }


def test_the_paper_benchmark_imports_no_package_of_training_ray_or_the_crawl() -> None:
    """A machine for GPU measurements may have few packages."""
    spared = {"torch", "transformers", "accelerate", "diffusers", "ray", "webdataset", "aiohttp", "dlib", "insightface"}
    code = f"import sys, benchmarks.__main__, benchmarks.paper; sys.exit(str({spared} & set(sys.modules) or '') or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
