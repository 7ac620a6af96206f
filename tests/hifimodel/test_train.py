"""Runs from the command line: they go on after being killed as if nothing had been, and two processes train as one."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("accelerate")

from accelerate import Accelerator  # noqa: E402
from accelerate.state import AcceleratorState  # noqa: E402

from hifidata.store.shards import write_shard  # noqa: E402
from hifimodel.config import load_preset  # noqa: E402
from hifimodel.data import Batch, Loader  # noqa: E402
from hifimodel.nets.loading import load_trained  # noqa: E402
from hifimodel.train import main  # noqa: E402
from hifimodel.training.checkpoint import checkpoints  # noqa: E402
from hifimodel.training.draws import draw  # noqa: E402
from hifimodel.training.options import RunOptions, data_config  # noqa: E402
from hifimodel.training.setup import resolved, set_up  # noqa: E402
from tests.conftest import PROJECT_ROOT  # noqa: E402
from tests.factories.training_shards import person, person_id  # noqa: E402

STEPS = 30
SMALL = (
    f"train.steps={STEPS}", "train.log_every=1", "train.checkpoint_every=7", "train.sample_every=100", "train.samples=1",
    "train.sample_steps=1", "train.batch_size=2", "model.image_px=64", "train.ema_decay=0.9", "train.latent_cache=true",
)  # fmt: skip
TIMES = ("seconds_per_step", "waiting_share")
WAIT_S = 120


@pytest.fixture(autouse=True)
def _one_process_state() -> Iterator[None]:
    """accelerate remembers the precision of the first run in a process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("people")
    for number in range(1, 5):
        write_shard(root / f"{person_id(number)}.tar", person(number, 5))
    return root


def arguments(shards: Path, out: Path, *settings: str) -> list[str]:
    pairs = [part for setting in (*SMALL, *settings) for part in ("--set", setting)]
    return ["--shards", str(shards), "--preset", "tiny", "--out", str(out), *pairs]


def process(*command: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.Popen([sys.executable, "-m", *command], env=environment, stderr=subprocess.PIPE)


def curve(out: Path) -> list[dict[str, str]]:
    """All rows but their times, as the text that stands in the file."""
    with open(out / "metrics.csv", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]


def wait_until(condition: Callable[[], bool], child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert child.poll() is None, child.stderr.read().decode() if child.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)


def n_rows(out: Path) -> int:
    path = out / "metrics.csv"
    return path.read_text().count("\n") - 1 if path.exists() else 0


@pytest.fixture(scope="module")
def whole_run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    torch.set_num_threads(1)
    assert main(arguments(shards, out)) == 0
    AcceleratorState._reset_state(reset_partial_state=True)
    return out


def test_interrupted_then_killed_then_resumed_gives_the_bit_equal_curve_and_weights(
    shards: Path, whole_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    child = process("hifimodel.train", *arguments(shards, out))
    wait_until(lambda: n_rows(out) >= 1, child)
    child.send_signal(signal.SIGINT)
    errors = child.communicate(timeout=WAIT_S)[1].decode()
    assert child.returncode == 130, errors
    stopped_at = int(checkpoints(out)[-1].name.removeprefix("step-"))
    assert stopped_at == n_rows(out) < STEPS
    assert f"stopped after step {stopped_at}" in errors

    child = process("hifimodel.train", *arguments(shards, out))
    wait_until(lambda: n_rows(out) > stopped_at + 8, child)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate(timeout=WAIT_S)
    assert child.returncode == -signal.SIGKILL
    assert not (out / "model").exists()

    assert main(arguments(shards, out)) == 0
    assert curve(out) == curve(whole_run)
    assert (out / "probe.csv").read_text() == (whole_run / "probe.csv").read_text()
    pairs = zip(load_trained(out).trainable(), load_trained(whole_run).trainable(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_two_processes_train_as_one_with_both_their_batches(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = ("train.steps=3", "train.batch_size=4", "train.ema_decay=null")
    launch = ("accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0")
    child = process(*launch, "-m", "hifimodel.train", *arguments(shards, out, *settings))
    errors = child.communicate(timeout=WAIT_S)[1].decode()
    assert child.returncode == 0, errors
    options = resolved(RunOptions(str(shards), tmp_path / "one", load_preset(out / "preset.yaml")), lambda line: None)
    run = set_up(options, Accelerator(cpu=True), lambda line: None)
    streams = [
        iter(Loader(data_config(options, (rank, 2), run.modules.face_encoder.image_px, False))) for rank in (0, 1)
    ]
    identities = [set[str](), set[str]()]
    losses = []
    for number in range(3):
        parts = [next(stream) for stream in streams]
        for seen, part in zip(identities, parts, strict=True):
            seen.update(key.partition("_")[0] for key in part.keys)
        batch = joined(parts)
        prepared = run.frozen.prepare(batch, run.latents)
        result = run.step(run.nets, batch, prepared, draw(batch.keys, number, run.draws))
        result.loss.backward()
        torch.nn.utils.clip_grad_norm_(run.nets.parameters(), 1.0)
        run.optimizer.step()
        run.optimizer.zero_grad()
        losses.append(result.loss.item())
    assert not identities[0] & identities[1]
    assert [float(row["loss"]) for row in curve(out)] == pytest.approx(losses, abs=2e-5)
    for one, two in zip(load_trained(out).trainable(), run.modules.trainable(), strict=True):
        # Adam divides by the gradient's own size: where that is rounding noise, a step of the full rate may go either way.
        assert float(((one - two).abs() > 1e-3).float().mean()) < 0.01


@pytest.mark.slow
def test_a_sigterm_to_one_of_two_processes_stops_both_long_before_the_next_row(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = ("train.steps=400", "train.log_every=400", "train.checkpoint_every=1", "train.batch_size=4")
    launch = ("accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0")
    child = process(*launch, "-m", "hifimodel.train", *arguments(shards, out, *settings))
    wait_until(lambda: bool(checkpoints(out)), child)
    second = next(one for one in psutil.Process(child.pid).children(recursive=True) if rank_of(one) == "1")
    second.send_signal(signal.SIGTERM)
    errors = child.communicate(timeout=WAIT_S)[1].decode()
    assert f"stopped after step {int(checkpoints(out)[-1].name.removeprefix('step-'))}" in errors
    assert n_rows(out) == 0


def rank_of(child: psutil.Process) -> str | None:
    """Of a process of ``accelerate launch``; None for its helpers."""
    is_trainer = "hifimodel.train" in child.cmdline()
    return child.environ().get("RANK") if is_trainer else None


def joined(parts: list[Batch]) -> Batch:
    """The batches of all processes as one."""
    together = {
        name: torch.cat([getattr(part, name) for part in parts])
        if isinstance(value, torch.Tensor)
        else [entry for part in parts for entry in getattr(part, name)]
        for name, value in vars(parts[0]).items()
        if name != "position"
    }
    return Batch(**together)
