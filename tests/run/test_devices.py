"""GPUs are visible only to groups that request them. Plan, run and dataset.json state the provider of ONNX models."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hifidata.cli.main import app
from hifidata.config.recipe import Recipe, load_recipe
from hifidata.config.sections import STAGE_NAMES
from hifidata.models.runtime import device
from hifidata.run.devices import gpu_message, onnx_stages, planned_providers
from hifidata.run.identity_batch import task_to_bytes
from hifidata.run.plan import open_source
from hifidata.run.run import RunOptions, run
from hifidata.store.fragments import read_record
from hifidata.store.layout import DatasetFolder
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE

FOLDER = PROJECT_ROOT / "pipelines" / "folder.yaml"
PAPER = PROJECT_ROOT / "pipelines" / "paper.yaml"
NO_GPU = (
    r"ONNX models of faces, identity, rest will run on the CPU: the requested GPU is not available, .* has no "
    r"CUDAExecutionProvider; run `pip"
)


def paper(**executor: Any) -> Recipe:
    recipe = load_recipe(PAPER)
    return Recipe.model_validate(recipe.model_dump() | {"executor": executor})


def with_runtime(monkeypatch: pytest.MonkeyPatch, *listed: str) -> None:
    monkeypatch.setattr(device.ort, "get_available_providers", lambda: [*listed, device.CPU])


def test_the_papers_gpu_groups_get_cuda_if_the_runtime_has_it_with_mocked_providers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_runtime(monkeypatch, device.CUDA)
    on_gpu = dict.fromkeys(("faces", "identity", "rest"), device.CUDA)
    others = dict.fromkeys(("paddleocr", "blip2", "matting", "captions"))
    assert planned_providers(paper()) == on_gpu | others
    assert gpu_message(paper()) == ("ONNX models of faces, identity, rest: CUDAExecutionProvider", True)
    assert planned_providers(paper(use_gpus=False)) == dict.fromkeys(on_gpu, device.CPU) | others
    assert gpu_message(paper(use_gpus=False)) == ("", True)


def test_a_requested_gpu_without_cuda_in_the_runtime_gives_a_message_with_the_remedy_with_mocked_providers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_runtime(monkeypatch)
    line, is_available = gpu_message(paper())
    assert not is_available
    assert re.match(NO_GPU, line)
    assert "\n" not in line
    assert set(filter(None, planned_providers(paper()).values())) == {device.CPU}


def test_onnx_stages_are_the_stages_with_onnx_models() -> None:
    found = ["detect", "quality", "embed", "restore", "face3d", "attributes"]
    assert onnx_stages(paper(), STAGE_NAMES) == found
    assert onnx_stages(load_recipe(FOLDER), STAGE_NAMES) == ["watermark"]


def grouped(photos: Path, num_gpus: float, *overrides: str) -> list[str]:
    """Return arguments for a recipe with two groups. The first group contains the text model and has ``num_gpus``."""
    groups = [
        {"name": "faces", "stages": STAGE_NAMES[:5], "num_cpus": 0.5, "num_gpus": num_gpus},
        {"name": "others", "stages": STAGE_NAMES[5:], "num_cpus": 0.5},
    ]
    sets = (
        *QUICK_RECIPE,
        "watermark.model=rapidocr",
        f"source.path={photos}",
        f"groups={json.dumps(groups)}",
        *overrides,
    )
    return [str(FOLDER), *(word for value in sets for word in ("--set", value)), "--limit", "1"]


def test_plan_and_run_print_the_missing_gpu_once_and_the_dataset_records_the_used_provider(
    twelve_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(device.VISIBLE, raising=False)
    with_runtime(monkeypatch)
    planned = CliRunner().invoke(app, ["plan", *grouped(twelve_people, 0.2), "--json"])
    ran = CliRunner().invoke(app, ["run", *grouped(twelve_people, 0.2), "--out", str(tmp_path / "out")])
    for done in (planned, ran):
        assert "will run on the CPU" not in done.stdout
    assert ran.stderr.count("ONNX models of faces will run on the CPU: the requested GPU is not available") == 1
    plan = json.loads(planned.stdout)
    assert [group["onnx_provider"] for group in plan["groups"]] == [device.CPU, None]
    assert CliRunner().invoke(app, ["plan", *grouped(twelve_people, 0.2)]).stderr.count("will run on the CPU") == 1
    quiet = CliRunner().invoke(app, ["run", *grouped(twelve_people, 0.0), "--out", str(tmp_path / "none")])
    assert "GPU" not in quiet.stderr
    dataset = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert dataset["onnx_providers"] == {"watermark": [device.CPU]}
    assert "onnxruntime" in dataset["packages"]


def test_a_worker_sees_gpus_only_if_its_group_has_some_and_its_provider_reaches_the_commit(
    twelve_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_here: str
) -> None:
    """Ray assigns a share of a GPU to actors that request one, and does not hide GPUs from the others."""
    from hifidata.run.executors.ray import COLUMN, KIND, GroupActor

    recipe = load_recipe(FOLDER, grouped(twelve_people, 0.2, "executor.kind=ray")[2:-2:2])
    task = next(iter(open_source(recipe).identities()))
    batch: dict[str, Any] = {COLUMN: [task_to_bytes(task)], KIND: ["task"]}
    for position, seen, kind in ((0, "3", "batch"), (1, "", "outcome")):
        monkeypatch.setenv(device.VISIBLE, "3")
        batch = GroupActor(recipe.model_dump_json(), position, str(tmp_path), "run")(batch)
        assert (os.environ[device.VISIBLE], batch[KIND]) == (seen, [kind])
    record = read_record(DatasetFolder(tmp_path).fragment_path(task.identity_id))
    assert record.providers == {"watermark": device.CPU}


@pytest.mark.parametrize(("num_gpus", "use_gpus", "seen"), [(0.2, True, "3"), (0.2, False, ""), (0.0, True, "")])
def test_the_local_executor_hides_gpus_unless_a_group_requests_one(
    num_gpus: float, use_gpus: bool, seen: str, twelve_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(device.VISIBLE, "3")
    arguments = grouped(twelve_people, num_gpus, f"executor.use_gpus={json.dumps(use_gpus)}")
    during: list[str] = []
    recipe = load_recipe(FOLDER, arguments[2:-2:2])
    real = device.current_provider
    monkeypatch.setattr(device, "current_provider", lambda: during.append(os.environ[device.VISIBLE]) or real())
    run(recipe, RunOptions(tmp_path / "out", limit=1), lambda progress: None)
    assert set(during) == {seen}
    assert os.environ[device.VISIBLE] == "3"
