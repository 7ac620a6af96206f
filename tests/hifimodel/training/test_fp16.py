"""fp16's gradient scaler in the training loop: an overflow costs a step and nothing else."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("accelerate")

from accelerate import Accelerator  # noqa: E402
from accelerate.optimizer import AcceleratedOptimizer  # noqa: E402
from torch import Tensor  # noqa: E402

from hifimodel.config import load_preset  # noqa: E402
from hifimodel.training.loop import Loop  # noqa: E402
from hifimodel.training.metrics import read_csv  # noqa: E402
from hifimodel.training.options import RunOptions  # noqa: E402
from hifimodel.training.setup import Run, resolved, set_up  # noqa: E402

pytestmark = pytest.mark.usefixtures("accelerate_alone")


def scaled_run(shards: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A float32 run on the CPU with the scaler of an fp16 one, which accelerate gives to GPUs alone."""
    small = ("model.image_px=64", "train.batch_size=2", "train.samples=1", "train.sample_steps=1")
    preset = load_preset("tiny", [*small, "train.ema_decay=0.9"])
    options = resolved(RunOptions(str(shards), out, preset), lambda line: None)
    run = set_up(options, Accelerator(cpu=True, mixed_precision="no"), lambda line: None)
    monkeypatch.setattr(Accelerator, "mixed_precision", "fp16")
    run.accelerator.native_amp, run.accelerator.scaler = True, torch.amp.GradScaler("cpu")
    run.optimizer = AcceleratedOptimizer(run.optimizer.optimizer, scaler=run.accelerator.scaler)
    run.accelerator._optimizers = [run.optimizer]
    return run


def test_an_overflow_is_a_skipped_step_of_weights_and_average_and_not_the_end_of_the_run(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scaled_run(shards, tmp_path, monkeypatch)
    loop, batches = Loop(run, lambda line: None), iter(run.loader)
    weights = run.modules.trainable()
    first, scale = copy.deepcopy(weights), run.accelerator.scaler.get_scale()

    def overflow(gradient: Tensor) -> Tensor:
        return torch.full_like(gradient, float("inf"))

    handle = weights[0].register_hook(overflow)
    loop.step(batches)
    handle.remove()
    assert run.accelerator.scaler.get_scale() == scale / 2
    assert all(torch.equal(one, two) for one, two in zip(weights, first, strict=True))
    assert run.ema.optimization_step == 0
    loop.step(batches)
    assert not all(torch.equal(one, two) for one, two in zip(weights, first, strict=True))
    assert run.ema.optimization_step == 1
    loop._row()
    assert 0 < float(read_csv(tmp_path / "metrics.csv")[0]["grad_norm"]) < float("inf")
