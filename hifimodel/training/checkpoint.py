"""Checkpoints: all state that a resumed run needs to give the same result as an uninterrupted run.

checkpoints/step-00000080/refiner/, hifinet/    the trained networks, ready to load; with an EMA, its averaged weights
                          optimizer.pt          optimizer and scaler; with an EMA, its state and the weights as trained
                          process-0.pt ...      per process: loader position, sums of the metrics, torch's generators
                          state.json            step, number of processes, digests of the frozen base and the recogniser,
                                                sha256 of the other files and of itself
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from hifidata.core.errors import WeightsError
from hifimodel.errors import CheckpointError, one_line
from hifimodel.nets.loading import LOAD_ERRORS, Base, Modules, load_trained_nets
from hifimodel.nets.state import read_state, require_unaltered, write_state
from hifimodel.training.folders import begin_folder, finish_folder, remove_folder, temporary_folder

NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class CheckpointFacts:
    """``state.json``.

    Attributes:
        step: optimizer steps done.
        n_processes: processes that trained together.
        base: ``base_digest`` of the frozen base.
        embedder: name and digest of the recogniser of the identity loss; "" without that loss, and in older checkpoints.
    """

    step: int
    n_processes: int
    base: str
    embedder: str = ""


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint in memory.

    Attributes:
        shared: state of all processes: optimizer, scaler, ema; with an EMA also the trained weights.
        own: state of this process: loader position, sums of metrics, generators.
    """

    facts: CheckpointFacts
    shared: dict[str, Any]
    own: dict[str, Any]


def checkpoints(out: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted(path for path in (out / "checkpoints").glob("step-*") if NAME.fullmatch(path.name))


def save(
    out: Path,
    facts: CheckpointFacts,
    write_nets: Callable[[Path], None],
    shared: dict[str, Any],
    own: dict[str, Any],
    accelerator: Accelerator,
) -> Path:
    """Write a checkpoint; every process calls this. On return it is on the disk.

    Args:
        out: folder of the run.
        facts: of ``state.json``.
        write_nets: writes the networks into a folder; called in the first process.
        shared: see ``SavedCheckpoint``.
        own: see ``SavedCheckpoint``.
        accelerator: of the run.
    """
    path = out / "checkpoints" / f"step-{facts.step:08d}"
    temporary = temporary_folder(path)
    if accelerator.is_main_process:
        begin_folder(path)
        torch.save(shared, temporary / "optimizer.pt")
        write_nets(temporary)
    accelerator.wait_for_everyone()
    torch.save(own, temporary / f"process-{accelerator.process_index}.pt")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_state(temporary, asdict(facts))
        finish_folder(path)
    accelerator.wait_for_everyone()
    return path


def load(path: Path, modules: Modules, process: int, n_processes: int) -> SavedCheckpoint:
    """Read a checkpoint; the weights of the networks go into ``modules``.

    Raises:
        CheckpointError: it cannot be read, or is of another number of processes or another base.
    """
    with readable(path):
        state = read_state(path)
        facts = CheckpointFacts(state.step, state.n_processes, state.base, state.embedder)
        if facts.n_processes != n_processes:
            raise CheckpointError(
                f"{path}: written by {facts.n_processes} processes, this run has {n_processes}; the data are split over "
                "processes: resume with the same number, or start a new folder"
            )
        if facts.base != base_digest(modules.base):
            raise CheckpointError(f"{path}: trained with another base; resume with that base, or start a new folder")
        own_file = f"process-{process}.pt"
        require_unaltered(path, state, lambda name: name == own_file or not name.startswith("process-"))
        shared = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
        own = torch.load(path / own_file, map_location="cpu", weights_only=True)
        load_trained_nets(modules, path)
    return SavedCheckpoint(facts, shared, own)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors of reading or applying a checkpoint into a CheckpointError with the remedy."""
    try:
        yield
    except (*LOAD_ERRORS, zipfile.BadZipFile, WeightsError) as error:
        cause = error.__cause__ or error
        kind = "" if isinstance(cause, OSError | ValueError) else f"{type(cause).__name__}: "
        raise CheckpointError(
            f"{path}: cannot be read ({kind}{one_line(cause)}); remove it to resume from the previous checkpoint"
        ) from error


def require_same_embedder(path: Path, facts: CheckpointFacts, embedder: str) -> None:
    """Raise CheckpointError if the identity loss had another recogniser; ``embedder`` as in ``CheckpointFacts``."""
    if facts.embedder and facts.embedder != embedder:
        raise CheckpointError(
            f"{path}: trained with the identity loss of {facts.embedder}, this run has {embedder or 'none'}; resume with the "
            "same --embedder, or start a new folder"
        )


def prune(out: Path, keep: int) -> None:
    """Remove all checkpoints but the newest ``keep``."""
    for path in checkpoints(out)[:-keep]:
        remove_folder(path)


def generators() -> dict[str, Any]:
    """Return the state of torch's global generators, which a library may use; this package does not."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_generators(state: dict[str, Any]) -> None:
    """Restore the state of ``generators``."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def base_digest(base: Base) -> str:
    """Return a digest of the outermost layers of a base: a few kilobytes instead of gigabytes."""
    digest = hashlib.sha256()
    for part in outermost(base):
        digest.update(part.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def outermost(base: Base) -> Iterator[torch.Tensor]:
    """Yield a few layers that any other training of the base changes."""
    yield base.unet.conv_in.weight
    yield base.unet.conv_out.weight
    yield base.vae.encoder.conv_in.weight
    yield base.vae.decoder.conv_out.weight
    yield base.text_encoder_2.text_projection.weight
