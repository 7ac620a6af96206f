"""What does not fit is one line with what, where and the remedy, and an exit code."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("accelerate")

from accelerate import Accelerator  # noqa: E402
from accelerate.state import AcceleratorState  # noqa: E402

from hifidata.core.errors import WeightsError  # noqa: E402
from hifidata.core.files import TEMPORARY_PREFIX  # noqa: E402
from hifidata.store.shards import write_shard  # noqa: E402
from hifimodel.config import ModelConfig, load_preset, preset_text  # noqa: E402
from hifimodel.data import ShardFacts  # noqa: E402
from hifimodel.errors import CheckpointError, DataError  # noqa: E402
from hifimodel.nets.loading import build_modules, find_model, load_trained, save_trained  # noqa: E402
from hifimodel.train import main  # noqa: E402
from hifimodel.training.folders import PRESET_FILE  # noqa: E402
from hifimodel.training.identity import GateDetector, loss_embedder  # noqa: E402
from hifimodel.training.loop import StopRequest  # noqa: E402
from hifimodel.training.options import model_for_shards  # noqa: E402
from tests.factories.training_shards import person, person_id  # noqa: E402

pytestmark = pytest.mark.usefixtures("accelerate_alone")
QUICK = (
    "model.image_px=64", "train.steps=2", "train.batch_size=2", "train.samples=1", "train.sample_steps=1",
    "train.log_every=1", "train.checkpoint_every=1", "train.sample_every=100",
)  # fmt: skip
TINY = load_preset("tiny").model


@pytest.fixture(scope="module")
def finished(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    torch.set_num_threads(1)
    assert call(shards, out) == 0
    AcceleratorState._reset_state(reset_partial_state=True)
    return out


def call(shards: Path, out: Path, *settings: str, preset: str = "tiny", options: tuple[str, ...] = ()) -> int:
    pairs = [part for setting in (*QUICK, *settings) for part in ("--set", setting)]
    return main(["--shards", str(shards), "--preset", preset, "--out", str(out), *pairs, *options])


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_tiny_takes_the_embedder_of_the_shards() -> None:
    model, note = model_for_shards(TINY, ShardFacts("dlib_resnet", 128))
    assert (model.embedder, model.embedder_dim) == ("dlib_resnet", 128)
    assert "dlib_resnet with 128" in note
    assert model_for_shards(TINY, ShardFacts("arcface", 512))[0].embedder == "w600k_r50"


def test_a_real_preset_wants_its_own_embedder_and_says_how_to_get_it() -> None:
    assert model_for_shards(ModelConfig(), ShardFacts("arcface", 512)) == (ModelConfig(), "")
    with pytest.raises(DataError, match=r"by dlib_resnet, .*512 by arcface .*--set verify.model=arcface") as caught:
        model_for_shards(ModelConfig(), ShardFacts("dlib_resnet", 128))
    assert "\n" not in str(caught.value)
    assert "model.embedder=dlib_resnet and model.embedder_dim=128 (then the identity loss needs" in str(caught.value)


def test_the_identity_loss_may_have_another_recogniser_than_the_shards(assets: Path) -> None:
    folder = assets / "weights" / "mobilefacenet"
    dlib = ModelConfig(embedder="dlib_resnet", embedder_dim=128)
    for model in (dlib, TINY):
        for place in (folder, folder / "MobileFaceNet.onnx"):
            assert loss_embedder(model, place).name == "mobilefacenet"
    with pytest.raises(WeightsError, match=r"dlib_resnet: .*pass --embedder .*MobileFaceNet.onnx.*train.id_weight=0"):
        loss_embedder(dlib, None)
    with pytest.raises(WeightsError, match=r"no file at .*w600k_r50.onnx"):  # a folder says nothing of another one
        loss_embedder(ModelConfig(), folder)


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        (("train.learning_rate=0.1", "train.seed=5"), "seed: 0 there, 5 requested; learning_rate: 0.005 there, 0.1"),
        (("model.clip_layer=-1",), "clip_layer: -2 there, -1 requested"),
        (("train.batch_size=3",), "batch_size: 2 there, 3 requested"),
    ],
)
def test_another_preset_in_the_same_folder_is_refused_with_the_difference(
    shards: Path, finished: Path, settings: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(shards, finished, *settings) == 2
    assert hint in last_line(capsys)


def test_more_steps_go_on_in_the_same_folder(shards: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(shards, finished, "train.steps=3") == 0
    assert "resuming after step 2" in capsys.readouterr().err
    assert [line.split(",")[0] for line in (finished / "metrics.csv").read_text().splitlines()] == [
        "step",
        "1",
        "2",
        "3",
    ]


def test_another_recogniser_in_the_identity_loss_is_refused_on_resume(
    shards: Path, finished: Path, assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = json.loads((finished / "checkpoints" / "step-00000002" / "state.json").read_text())
    assert state["embedder"].startswith("tiny-random-")
    embedder = ("--embedder", str(assets / "weights" / "mobilefacenet"))
    assert call(shards, finished, "train.steps=9", options=embedder) == 2
    assert f"identity loss of {state['embedder']}, this run has mobilefacenet-" in last_line(capsys)


def test_a_start_that_failed_or_trained_nothing_leaves_the_folder_free(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert call(shards, out, "train.id_gate=detector", "train.id_detector=eyes-9") == 2
    assert not (out / PRESET_FILE).exists()
    (out / PRESET_FILE).write_text(preset_text(load_preset("tiny", ["train.seed=7"])))  # of a run killed at once
    assert call(shards, out, "train.steps=1") == 0
    assert load_preset(out / PRESET_FILE).train.seed == 0


def test_a_finished_run_that_goes_on_is_known_by_its_newer_checkpoint_until_it_ends(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    assert call(shards, out, "train.steps=1") == 0
    assert find_model(out).name == "model"
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "agreed", lambda *_: True)
        assert call(shards, out, "train.steps=3") == 130
    assert find_model(out).name == "step-00000002"
    assert call(shards, out, "train.steps=3") == 0
    assert find_model(out).name == "model"


def test_other_shards_are_refused_on_resume(
    shards: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(1, 5):
        write_shard(tmp_path / f"{person_id(number)}.tar", person(number, 5))
    assert call(tmp_path, finished, "train.steps=9") == 2
    assert "the shards' names or sizes changed" in last_line(capsys)


def test_a_damaged_checkpoint_is_named(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert call(shards, out, "train.steps=1") == 0
    (out / "checkpoints" / "step-00000001" / "optimizer.pt").write_bytes(b"PK cut off")
    assert call(shards, out) == 2
    assert "step-00000001: cannot be read" in last_line(capsys)


def test_a_folder_in_use_is_refused(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(tmp_path / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert call(shards, tmp_path) == 4
    assert "another run trains here" in last_line(capsys)


FOREIGN = (
    ("thesis.doc",),
    (".tmp-mine",),
    ("model/weights.bin",),
    ("metrics.csv",),
    ("lock", "checkpoints/step-00000001/mine"),
    ("preset.yaml", "model/unet/config.json"),
    ("dataset.json", "state/run.json", "state/lock"),
)


@pytest.mark.parametrize("names", FOREIGN, ids=",".join)
def test_a_folder_with_files_of_others_is_refused_and_untouched(
    names: tuple[str, ...], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("model: {}\ntrain: {}\n")
    before = sorted(tmp_path.rglob("*"))
    assert call(shards, tmp_path) == 2
    assert "is not empty and not a training run; choose a new folder" in last_line(capsys)
    assert sorted(tmp_path.rglob("*")) == before
    assert {(tmp_path / name).read_text() for name in names} == {"model: {}\ntrain: {}\n"}


def test_a_run_with_foreign_parts_is_refused_and_nothing_is_removed_before_the_arguments_are_checked(
    shards: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, left = tmp_path / "run", tmp_path / "run" / f"{TEMPORARY_PREFIX}model"
    out.mkdir()
    for name in ("lock", "preset.yaml"):
        shutil.copyfile(finished / name, out / name)
    left.mkdir()
    assert call(tmp_path / "nothing", out) == 2
    assert left.exists()
    (out / "model").mkdir()
    assert call(shards, out) == 2
    assert "model: is no model of this run" in last_line(capsys)
    (out / "model").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (out / "checkpoints").symlink_to(tmp_path / "elsewhere")
    assert call(shards, out) == 2
    assert "contains the link checkpoints" in last_line(capsys)


def test_temporary_files_of_others_survive_a_run(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert call(shards, out, "train.steps=1") == 0
    mine, left = out / "samples" / ".tmp-mine", out / "samples" / f"{TEMPORARY_PREFIX}x"
    for path in (mine, left):
        path.touch()
    assert call(shards, out) == 0
    assert mine.exists()
    assert not left.exists()


def test_a_loss_that_is_no_number_ends_the_run_without_a_checkpoint(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        call(shards, tmp_path / "run", "train.learning_rate=1.0e+30", "train.steps=5", "train.checkpoint_every=9") == 1
    )
    assert "infinite or NaN" in last_line(capsys)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_step_that_spoils_the_weights_is_not_saved_though_its_own_loss_was_fine(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(shards, tmp_path / "run", "train.learning_rate=1.0e+39") == 1
    assert "step 1: the loss, its gradient or a weight is infinite or NaN" in last_line(capsys)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_gradient_that_is_no_number_is_not_saved(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Accelerator, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    assert call(shards, tmp_path / "run") == 1
    assert "step 1: the loss, its gradient" in last_line(capsys)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_wrong_calls_are_one_line_each(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    wrong = [
        (call(tmp_path / "nothing", tmp_path / "a"), "no tar found"),
        (call(shards, tmp_path / "b", "train.min_images_per_identity=9"), "no usable identity"),
        (call(shards, tmp_path / "c", "train.mixed_precision='no'", preset="sdxl"), "verify.model=arcface"),
        (call(shards, tmp_path / "d", "train.landmarks=nose"), "'nose' does not exist"),
        (call(shards, tmp_path / "e", "model.landmark_style=crayons-7"), "this release draws"),
        (call(shards, tmp_path / "file"), "file: cannot be written to (File exists)"),
        (call(shards, tmp_path / "file" / "run"), "cannot be written to (Not a directory)"),
        (call(shards, tmp_path / "g", "train.seed=-1"), "train.seed: Input should be greater than or equal to 0"),
        (call(shards, tmp_path / "h", "train.landmarks=deca"), "name it with --landmarks-weights"),
        (
            call(shards, tmp_path / "i", "train.landmarks=deca", options=("--landmarks-weights", str(tmp_path))),
            "generic_model.pkl is missing",
        ),
    ]
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert [code for code, _ in wrong] == [2] * len(wrong)
    assert [line for (_, hint), line in zip(wrong, lines, strict=True) if hint not in line] == []


@pytest.mark.parametrize(
    ("package", "setting"),
    [("bitsandbytes", "train.optimizer=adam8bit"), ("tensorboard", "train.metrics=tensorboard")],
)
def test_a_missing_optional_package_is_named(
    shards: Path, tmp_path: Path, package: str, setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    assert call(shards, tmp_path / "run", setting) == 2
    assert package in last_line(capsys)


def test_a_model_of_another_landmark_style_is_refused(tmp_path: Path) -> None:
    modules = build_modules(TINY)
    modules.hifinet.register_to_config(choices=TINY.model_dump() | {"landmark_style": "crayons-7"})
    save_trained(modules, tmp_path)
    with pytest.raises(CheckpointError, match="crayons-7, this release draws"):
        load_trained(tmp_path)


def test_unknown_embedder_files_and_detectors_are_named() -> None:
    with pytest.raises(WeightsError, match=r"known: .*MobileFaceNet.onnx"):
        loss_embedder(TINY, Path("some.onnx"))
    with pytest.raises(WeightsError, match="id_gate=target_kps"):
        GateDetector("eyes-9")
