"""A training run from its first step, or its newest checkpoint, to its last step."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from torch import distributed

from hifidata.core.files import write_bytes
from hifimodel.config import TrainConfig, preset_text
from hifimodel.console import Say
from hifimodel.data import Batch
from hifimodel.errors import ConfigError, DivergedError
from hifimodel.nets.state import write_state
from hifimodel.training import checkpoint
from hifimodel.training.draws import draw
from hifimodel.training.folders import (
    MODEL_FOLDER,
    PRESET_FILE,
    begin_folder,
    finish_folder,
    locked_run,
    remove_leftovers,
)
from hifimodel.training.metrics import COLUMNS, PROBE_COLUMNS, Clock, CsvTable, tensorboard
from hifimodel.training.options import RunOptions
from hifimodel.training.plot import write_plot
from hifimodel.training.samples import FixedSamples, generate, probe, write_grid
from hifimodel.training.setup import Run, fixed_samples, resolved, set_up


class StopRequest:
    """The request to stop a run: Ctrl-C, or SIGTERM of a cluster.

    A second Ctrl-C stops a single process at once. With several processes, the launcher repeats the signal, so it has no
    effect.
    """

    def __init__(self) -> None:
        self.asked = False
        self._group: Any = None
        self._question: tuple[Any, torch.Tensor] | None = None

    @contextmanager
    def listening(self, say: Say, is_alone: bool) -> Iterator[None]:
        """Record signals during the block instead of raising."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            """Record the signal; the next Ctrl-C of a single process raises."""
            if is_alone:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            if not self.asked:
                say("stopping after a checkpoint" + ("; Ctrl-C again stops without it" if is_alone else ""))
            self.asked = True

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def agreed(self, accelerator: Accelerator) -> bool:
        """Return whether all processes stop now; every process calls this after every step.

        Several processes agree over the CPU, with the answer one step later, so that no step waits for GPU or network.
        """
        if accelerator.num_processes == 1:
            return self.asked
        if self._group is None:
            self._group = distributed.new_group(backend="gloo")
        before, flag = self._question, torch.tensor(float(self.asked))  # summed in place
        self._question = distributed.all_reduce(flag, group=self._group, async_op=True), flag
        if before is None:
            return False
        work, n_asked = before
        work.wait()
        return bool(n_asked > 0)


def train(options: RunOptions, say: Say) -> bool:
    """Train to ``train.steps``, from the newest checkpoint in the folder if there is one.

    Args:
        options: of the command line.
        say: prints progress, in the first process only.

    Returns:
        True after the last step, False after a request to stop. Both leave a checkpoint.

    Raises:
        UsageError: an error that the user can fix, see ``hifimodel.errors``.
        FolderLockedError: another run trains in this folder.
        DivergedError: the loss is infinite or NaN.
    """
    accelerator = _accelerator(options.preset.train)
    if not accelerator.is_main_process:
        say = _discard
    stop = StopRequest()
    with ExitStack() as stack:
        if accelerator.is_main_process:
            stack.enter_context(locked_run(options.out))
        stack.enter_context(stop.listening(say, accelerator.num_processes == 1))
        stack.enter_context(_reproducible(accelerator.device))
        stack.callback(accelerator.end_training)
        options = resolved(options, say)
        run = set_up(options, accelerator, say)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:  # nothing in the folder changes before all arguments are checked
            remove_leftovers(options.out)
            write_bytes(options.out / PRESET_FILE, preset_text(options.preset).encode())
        return Loop(run, say).run(stop)


def _accelerator(settings: TrainConfig) -> Accelerator:
    try:
        return Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision=settings.mixed_precision,
            gradient_accumulation_steps=settings.gradient_accumulation,
        )
    except ValueError as error:
        raise ConfigError(f"train.mixed_precision {settings.mixed_precision}: {error}; set it to bf16 or no") from error


class Loop:
    """The steps of a run, and its output between them."""

    def __init__(self, run: Run, say: Say) -> None:
        self._run, self._say, self._clock = run, say, Clock()
        self._fixed: FixedSamples | None = None
        out, settings = run.options.out, run.settings
        self._board = None
        if run.accelerator.is_main_process:
            self._metrics = CsvTable(out / "metrics.csv", COLUMNS, run.done)
            self._probes = CsvTable(out / "probe.csv", PROBE_COLUMNS, run.done)
            self._fixed = fixed_samples(run)
            if settings.metrics == "tensorboard":
                self._board = tensorboard(out / "tensorboard", run.done)

    def run(self, stop: StopRequest) -> bool:
        """Train; returns False after a request to stop."""
        run = self._run
        if run.done == 0:
            self._show()
        with closing(ahead(iter(run.loader))) as batches:
            return self._steps(batches, stop)

    def _steps(self, batches: Iterator[Batch], stop: StopRequest) -> bool:
        run, n_steps = self._run, self._run.settings.steps
        while run.done < n_steps:
            last = self.step(batches)
            is_last = run.done >= n_steps
            if is_last or run.done % run.settings.log_every == 0:
                self._row()
            if is_last or run.done % run.settings.sample_every == 0:
                self._show()
            stopping = stop.agreed(run.accelerator)
            if is_last or stopping or run.done % run.settings.checkpoint_every == 0:
                self._require_finite([*run.sums.state, *self._largest_weights()])
                run.save(dict(last.position))
            if stopping and not is_last:
                self._say(f"stopped after step {run.done}; run the same command to resume")
                return False
        self._export()
        return True

    def step(self, batches: Iterator[Batch]) -> Batch:
        """Run one optimizer step; returns its last batch."""
        run = self._run
        results, n_samples = [], 0
        self._clock.start()
        for _ in range(run.settings.gradient_accumulation):
            asked_at = time.perf_counter()
            batch = next(batches)
            self._clock.got_batch(asked_at)
            prepared = run.frozen.prepare(batch, run.latents)
            with run.accelerator.accumulate(run.nets):
                result = run.step(run.nets, batch, prepared, draw(batch.keys, run.done, run.draws))
                run.accelerator.backward(result.loss)
            results.append(result)
            n_samples += len(batch.keys)
        limit = run.settings.max_grad_norm
        grad_norm = run.accelerator.clip_grad_norm_(run.nets.parameters(), math.inf if limit is None else limit)
        if not run.optimizer_step():
            grad_norm = torch.zeros_like(grad_norm)  # an fp16 overflow does not end the run
        elif run.ema is not None:
            run.ema.step(run.modules.trainable())
        run.optimizer.zero_grad()
        run.sums.add(results, n_samples, grad_norm)
        run.done += 1
        self._clock.stop()
        return batch

    def _row(self) -> None:
        """Write and print the means since the last row."""
        run = self._run
        row = {"step": run.done} | run.sums.means(run.accelerator) | self._clock.row()
        run.sums.clear()
        self._require_finite([row["loss"], row["grad_norm"]])
        if run.accelerator.is_main_process:
            self._metrics.add(row)
            if self._board is not None:
                for name in COLUMNS[1:]:
                    self._board.add_scalar(name, row[name], run.done)
        self._say(
            f"step {run.done}/{run.settings.steps}: noise MSE {row['noise_mse']:.4f}, identity cosine "
            f"{row['identity_cosine']:.3f}, {row['seconds_per_step']:.3g} s per step, {row['waiting_share']:.0%} of it waiting "
            "for data"
        )

    def _show(self) -> None:
        """Write probe, sample grid and plot, in the first process only."""
        run = self._run
        if self._fixed is None:
            return
        nets = run.bare_nets.eval()
        with run.averaged_weights():
            value = probe(run.step, nets, self._fixed, run.draws)
            images = generate(run.step, nets, self._fixed.prepared, run.settings.sample_steps, run.draws)
        nets.train()
        out = run.options.out
        self._probes.add({"step": run.done, "probe_mse": value})
        write_grid(out / "samples" / f"step-{run.done:08d}.png", self._fixed.batch, images)
        write_plot(out)
        self._say(f"step {run.done}: probe MSE {value:.4f}")

    def _largest_weights(self) -> list[float]:
        """Return the largest weight of each trained tensor: a step can damage weights although its own loss is finite."""
        with torch.no_grad():
            return torch.stack([weight.abs().max() for weight in self._run.modules.trainable()]).tolist()

    def _require_finite(self, values: list[float]) -> None:
        if not all(math.isfinite(value) for value in values):
            found = checkpoint.checkpoints(self._run.options.out)
            newest = found[-1].name if found else "none"
            raise DivergedError(
                f"step {self._run.done}: the loss, its gradient or a weight is infinite or NaN; newest checkpoint: {newest}; "
                "try a lower train.learning_rate or train.mixed_precision=bf16 in a new folder"
            )

    def _export(self) -> None:
        """Write ``model/``, with averaged weights if there is an EMA."""
        run = self._run
        if run.accelerator.is_main_process:
            path = run.options.out / MODEL_FOLDER
            temporary = begin_folder(path)
            run.write_nets(temporary)
            write_state(temporary, {"step": run.done})
            finish_folder(path)
            self._say(f"read {run.loader.counts}")


def ahead(batches: Iterator[Batch], depth: int = 2) -> Generator[Batch, None, None]:
    """Yield the batches, made in a thread during a step; with worker processes, the thread only waits for them."""
    with ThreadPoolExecutor(1, "batches") as pool:
        pending = deque(pool.submit(next, batches, None) for _ in range(depth))
        while (batch := pending.popleft().result()) is not None:
            pending.append(pool.submit(next, batches, None))
            yield batch


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Make a run on a CPU bit-identical: otherwise some kernels of torch add in the order of their threads.

    Also use one thread, unless OMP_NUM_THREADS is set. Only tiny networks train on a CPU, and on a loaded machine their
    threads wait for each other for ten times the work of a step.
    """
    before, n_threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(n_threads)


def _discard(message: str) -> None:
    """Print nothing: only the first process prints."""
