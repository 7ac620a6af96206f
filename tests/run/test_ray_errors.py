"""What ends a local run ends a run on Ray in the same way: the same line, the same exit code, and it can be resumed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray._private.worker import print_to_stdstream

from hifidata.cli.main import main
from hifidata.config.recipe import Recipe, load_recipe
from hifidata.core.errors import ServiceError, SourceError
from hifidata.run.executors.local import run_local
from hifidata.run.executors.ray import _sigint_later, run_ray
from hifidata.run.plan import make_plan
from hifidata.run.run import RunOptions, run
from tests.conftest import PROJECT_ROOT, QUICK_RECIPE, digest
from tests.factories.graphs import make_graph
from tests.servers.openai_server import serving

RECIPE = PROJECT_ROOT / "pipelines" / "folder.yaml"
TWO_GROUPS = (
    "groups=[{name: a, num_cpus: 0.5, stages: [intake, detect, crop]}, {name: b, num_cpus: 0.5, stages: [quality, watermark,"
    " occlusion, embed, dedup, verify, restore, matting, face3d, landmarks, attributes, caption]}]"
)


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    """One small Ray for all tests of this module."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, object_store_memory=150_000_000, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def sigterm_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def ending(
    photos: Path, out: Path, executor: str, sets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[object, str]:  # fmt: skip
    """Exit code of ``hifidata run`` and its stderr without progress lines."""
    words = [f"source.path={photos}", *QUICK_RECIPE, *sets]
    command = ["hifidata", "run", str(RECIPE), "--out", str(out), "--limit", "2", "--executor", executor]
    monkeypatch.setattr(sys, "argv", command + [part for word in words for part in ("--set", word)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    lines = capsys.readouterr().err.splitlines(keepends=True)
    return ended.value.code, "".join(line for line in lines if not line.startswith("identities "))


def test_a_file_of_another_model_is_one_line_and_exit_2_before_any_work(
    twelve_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").mkdir()
    make_graph(tmp_path / "models" / "fqa.onnx", [("Relu", ["input"], "output")], ([1, 2], [1, 2]))
    sets = ("quality.model=modelscope_fqa", f"weights.folder={tmp_path / 'models'}")
    ends = [ending(twelve_people, tmp_path / kind, kind, sets, monkeypatch, capsys) for kind in ("local", "ray")]
    assert ends[0] == ends[1]
    code, words = ends[0]
    assert code == 2
    assert words.startswith(f"error: {tmp_path / 'models' / 'fqa.onnx'}: another graph than expected")
    assert words.count("\n") == 1


@pytest.mark.parametrize("groups", [(), (TWO_GROUPS,)], ids=["one group", "two groups"])
def test_a_model_that_a_worker_cannot_load_is_one_line_and_exit_2(
    twelve_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    groups: tuple[str, ...],
) -> None:  # fmt: skip
    pytest.importorskip("transformers")
    (tmp_path / "no-model").mkdir()  # folders are opened by the workers alone
    sets = ("occlusion.model=blip2", f"occlusion.folder={tmp_path / 'no-model'}", *groups)
    ends = [ending(twelve_people, tmp_path / kind, kind, sets, monkeypatch, capsys) for kind in ("local", "ray")]
    assert ends[0] == ends[1]
    code, words = ends[0]
    assert code == 2
    assert words.startswith("error: ")
    assert str(tmp_path / "no-model") in words
    assert words.count("\n") == 1


def test_a_server_that_refuses_during_the_run_is_one_line_and_exit_2(
    twelve_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as address:
        sets = ("caption.model=openai", f"caption.server={{base_url: '{address}/v1', model: locked, tries: 1}}")
        ends = [ending(twelve_people, tmp_path / kind, kind, sets, monkeypatch, capsys) for kind in ("local", "ray")]
    assert ends[0] == ends[1]
    code, words = ends[0]
    assert code == 2
    assert "refuses us (401)" in words
    assert words.count("\n") == 1


def test_after_too_many_errors_of_a_server_the_same_command_goes_on(twelve_people: Path, tmp_path: Path) -> None:
    def recipe(address: str, kind: str) -> Recipe:
        server = f"{{base_url: '{address}/v1', model: broken-twice, tries: 1, max_errors: 2, concurrency: 1}}"
        sets = [*QUICK_RECIPE, "caption.model=openai", f"caption.server={server}", f"executor.kind={kind}"]
        return load_recipe(RECIPE, [f"source.path={twelve_people}", *sets])

    for kind in ("local", "ray"):
        out = tmp_path / kind
        with serving() as address:
            with pytest.raises(ServiceError, match="failed on 2 portraits in a row"):
                run(recipe(address, kind), RunOptions(out, limit=2), lambda progress: None)
            assert not (out / "dataset.json").exists()
            run(recipe(address, kind), RunOptions(out, limit=2), lambda progress: None)
    assert digest(tmp_path / "ray") == digest(tmp_path / "local")


def test_a_source_that_goes_away_and_a_folder_that_cannot_be_written_end_both_executors_alike(
    twelve_people: Path, tmp_path: Path
) -> None:
    gone = load_recipe(RECIPE, [f"source.path={tmp_path / 'gone'}", *QUICK_RECIPE])
    here = load_recipe(RECIPE, [f"source.path={twelve_people}", *QUICK_RECIPE])
    (tmp_path / "shards").write_bytes(b"a file where a folder should be")
    pending = frozenset({next(iter(make_plan(here, 1).candidates_of))})
    for recipe, kind in ((gone, SourceError), (here, OSError)):
        messages = []
        for execute in (lambda r: run_local(r, pending, tmp_path), lambda r: run_ray(r, pending, tmp_path, None)):
            with pytest.raises(kind) as caught:
                list(execute(recipe))
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_what_ray_prints_of_its_own_does_not_stand_before_the_json_and_what_we_print_does(
    twelve_people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thread of Ray's prints to whatever stdout is at that moment; here one prints the same way."""
    recipe = load_recipe(RECIPE, [f"source.path={twelve_people}", *QUICK_RECIPE])
    pending = frozenset(list(make_plan(recipe).candidates_of)[:1])
    (tmp_path / "out").mkdir()
    for _ in run_ray(recipe, pending, tmp_path / "out", None):
        line = {"lines": ["a warning"], "pid": "raylet", "is_err": False}
        thread = threading.Thread(target=print_to_stdstream, args=(line, False))
        thread.start()
        thread.join()
        print("our progress")
    assert "".join(capsys.readouterr()) == "our progress\n"


def test_ctrl_c_while_ray_starts_takes_effect_when_it_has_and_its_processes_get_none() -> None:
    child = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    said = list[str]()

    def start() -> None:
        with _sigint_later():
            signal.raise_signal(signal.SIGINT)
            said.append(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout)

    with pytest.raises(KeyboardInterrupt):
        start()
    assert said == ["True\n"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with _sigint_later():
        pass
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ray_that_does_not_start_in_time_is_one_line_and_exit_1_with_a_made_up_start(
    twelve_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    def too_slow(**options: object) -> None:
        raise Exception("The current node timed out during startup. This could happen because\nthe raylet failed.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", too_slow)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    code, words = ending(twelve_people, tmp_path / "out", "ray", (), monkeypatch, capsys)
    assert code == 1
    assert words.startswith("error: Ray did not start on this machine: The current node timed out during startup.")
    assert "--executor local" in words
    assert words.count("\n") == 1
