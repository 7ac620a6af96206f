"""Errors end a run on Ray as they end a local run: with the same line and the same exit code. Both can be resumed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ray._private.worker import print_to_stdstream

from hifidata.config.recipe import Recipe, load_recipe
from hifidata.core.errors import ServiceError, SourceError
from hifidata.run.executors.local import run_local
from hifidata.run.executors.ray import run_ray
from hifidata.run.executors.ray_runtime import _delayed_sigint
from hifidata.run.plan import make_plan
from hifidata.run.run import RunOptions, run
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE, digest
from tests.factories.cli import hifidata
from tests.factories.graphs import make_graph
from tests.servers.openai_server import serving

RECIPE = PROJECT_ROOT / "pipelines" / "folder.yaml"
TWO_GROUPS = (
    "groups=[{name: a, num_cpus: 0.5, stages: [intake, detect, crop]}, {name: b, num_cpus: 0.5, stages: [quality, watermark,"
    " occlusion, embed, dedup, verify, restore, matting, face3d, landmarks, attributes, caption]}]"
)


pytestmark = pytest.mark.usefixtures("ray_here")


def exit_and_stderr(photos: Path, out: Path, executor: str, sets: tuple[str, ...]) -> tuple[int, str]:
    """Return the exit code of ``hifidata run``, and its stderr without progress lines."""
    settings = [f"source.path={photos}", *QUICK_RECIPE, "executor.workers=1", *sets]
    words = [part for setting in settings for part in ("--set", setting)]
    done = hifidata("run", RECIPE, "--out", out, "--limit", "2", "--executor", executor, *words)
    lines = done.stderr.splitlines(keepends=True)
    return done.returncode, "".join(line for line in lines if not line.startswith("identities "))


def test_a_file_of_another_model_gives_a_one_line_error_and_exit_2_before_any_work(
    twelve_people: Path, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    make_graph(tmp_path / "models" / "fqa.onnx", [("Relu", ["input"], "output")], ([1, 2], [1, 2]))
    sets = ("quality.model=modelscope_fqa", f"weights.folder={tmp_path / 'models'}")
    ends = [exit_and_stderr(twelve_people, tmp_path / kind, kind, sets) for kind in ("local", "ray")]
    assert ends[0] == ends[1]
    code, message = ends[0]
    assert code == 2
    assert message.startswith(f"error: {tmp_path / 'models' / 'fqa.onnx'}: another graph than expected")
    assert message.count("\n") == 1


def test_a_model_that_a_worker_cannot_load_gives_a_one_line_error_and_exit_2(
    twelve_people: Path, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "no-model").mkdir()  # only workers open model folders
    sets = ("occlusion.model=blip2", f"occlusion.folder={tmp_path / 'no-model'}", TWO_GROUPS)
    ends = [exit_and_stderr(twelve_people, tmp_path / kind, kind, sets) for kind in ("local", "ray")]
    assert ends[0] == ends[1]
    code, message = ends[0]
    assert code == 2
    assert message.startswith("error: ")
    assert str(tmp_path / "no-model") in message
    assert message.count("\n") == 1


def test_a_server_that_refuses_during_the_run_gives_a_one_line_error_and_exit_2(
    twelve_people: Path, tmp_path: Path
) -> None:
    with serving() as address:
        sets = ("caption.model=openai", f"caption.server={{base_url: '{address}/v1', model: locked, tries: 1}}")
        ends = [exit_and_stderr(twelve_people, tmp_path / kind, kind, sets) for kind in ("local", "ray")]
    assert ends[0] == ends[1]
    code, message = ends[0]
    assert code == 2
    assert "refuses us (401)" in message
    assert message.count("\n") == 1


def test_after_too_many_server_errors_the_same_command_resumes(twelve_people: Path, tmp_path: Path) -> None:
    def recipe(address: str, kind: str) -> Recipe:
        server = f"{{base_url: '{address}/v1', model: broken-twice, tries: 1, max_errors: 2, concurrency: 1}}"
        sets = [*QUICK_RECIPE, "caption.model=openai", f"caption.server={server}", f"executor.kind={kind}"]
        sets += ["executor.workers=1"]
        return load_recipe(RECIPE, [f"source.path={twelve_people}", *sets])

    for kind in ("local", "ray"):
        out = tmp_path / kind
        with serving() as address:
            with pytest.raises(ServiceError, match="failed on 2 portraits in a row"):
                run(recipe(address, kind), RunOptions(out, limit=2), lambda progress: None)
            assert not (out / "dataset.json").exists()
            run(recipe(address, kind), RunOptions(out, limit=2), lambda progress: None)
    assert digest(tmp_path / "ray") == digest(tmp_path / "local")


def test_both_executors_raise_the_same_error_for_a_missing_source_and_an_unwritable_folder(
    twelve_people: Path, tmp_path: Path
) -> None:
    gone = load_recipe(RECIPE, [f"source.path={tmp_path / 'gone'}", *QUICK_RECIPE])
    here = load_recipe(RECIPE, [f"source.path={twelve_people}", *QUICK_RECIPE])
    (tmp_path / "shards").write_bytes(b"a file where a folder should be")
    pending = frozenset({next(iter(make_plan(here, 1).candidates_of))})
    for recipe, kind in ((gone, SourceError), (here, OSError)):
        messages = []
        for execute in (
            lambda r: run_local(r, pending, tmp_path, "run"),
            lambda r: run_ray(r, pending, tmp_path, "run", None),
        ):
            with pytest.raises(kind) as caught:
                list(execute(recipe))
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_prints_of_rays_threads_are_suppressed_and_prints_of_the_main_thread_are_not(
    twelve_people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thread of Ray prints to the current stdout. A thread of this test prints in the same way."""
    recipe = load_recipe(RECIPE, [f"source.path={twelve_people}", *QUICK_RECIPE])
    pending = frozenset(list(make_plan(recipe).candidates_of)[:1])
    (tmp_path / "out").mkdir()
    for _ in run_ray(recipe, pending, tmp_path / "out", "run", None):
        line = {"lines": ["a warning"], "pid": "raylet", "is_err": False}
        thread = threading.Thread(target=print_to_stdstream, args=(line, False))
        thread.start()
        thread.join()
        print("progress of the main thread")
    assert "".join(capsys.readouterr()) == "progress of the main thread\n"


def test_ctrl_c_during_the_start_of_ray_takes_effect_afterwards_and_does_not_reach_its_processes() -> None:
    child = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    output = list[str]()

    def start() -> None:
        with _delayed_sigint():
            signal.raise_signal(signal.SIGINT)
            output.append(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout)

    with pytest.raises(KeyboardInterrupt):
        start()
    assert output == ["True\n"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with _delayed_sigint():
        pass
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_failed_start_of_ray_gives_a_one_line_error_and_exit_1_with_a_mocked_start(
    twelve_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def too_slow(**options: object) -> None:
        raise Exception("The current node timed out during startup. This could happen because\nthe raylet failed.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", too_slow)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    code, message = exit_and_stderr(twelve_people, tmp_path / "out", "ray", ())
    assert code == 1
    assert message.startswith("error: Ray did not start on this machine: The current node timed out during startup.")
    assert "--executor local" in message
    assert message.count("\n") == 1
