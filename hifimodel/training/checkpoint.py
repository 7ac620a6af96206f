"""Checkpoints: everything a run needs to go on as if it had never stopped.

checkpoints/step-00000080/refiner/, hifinet/    the nets, loadable by themselves; with an EMA, its averaged weights
                          optimizer.pt          optimizer, gradient scaler; with an EMA, its state and the weights as trained
                          process-0.pt ...      of each process: the loader's place, sums of the metrics' open window, torch's generators
                          state.json            step, number of processes, digests of the frozen base and recogniser
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from hifidata.core.errors import WeightsError
from hifimodel.errors import CheckpointError
from hifimodel.nets.loading import STATE_FILE, Base, Modules, load_trained_nets
from hifimodel.training.folders import begin_folder, finish_folder, remove_folder, temporary_folder

NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class CheckpointFacts:
    """``state.json``.

    Attributes:
        step: optimizer steps done.
        n_processes: processes that trained together.
        base: ``base_digest`` of the frozen base.
        embedder: name and digest of the identity loss' recogniser; "" without that loss, and before it was recorded.
    """

    step: int
    n_processes: int
    base: str
    embedder: str = ""


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint that was read.

    Attributes:
        shared: what all processes have in common: optimizer, scaler, ema; with an EMA also weights, those that are trained.
        own: this process' loader position, window of metrics and generators.
    """

    facts: CheckpointFacts
    shared: dict[str, Any]
    own: dict[str, Any]


def checkpoints(out: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted(path for path in (out / "checkpoints").glob("step-*") if NAME.fullmatch(path.name))


def save(
    out: Path,
    facts: CheckpointFacts,
    write_nets: Callable[[Path], None],
    shared: dict[str, Any],
    own: dict[str, Any],
    accelerator: Accelerator,
) -> Path:
    """Writes a checkpoint; every process calls it. On return it is on the disk.

    Args:
        out: the run's folder.
        facts: of ``state.json``.
        write_nets: writes the nets into a folder, in the first process.
        shared: as in ``SavedCheckpoint``.
        own: as in ``SavedCheckpoint``.
        accelerator: the run's.
    """
    path = out / "checkpoints" / f"step-{facts.step:08d}"
    temporary = temporary_folder(path)
    if accelerator.is_main_process:
        begin_folder(path)
        torch.save(shared, temporary / "optimizer.pt")
        write_nets(temporary)
        (temporary / STATE_FILE).write_text(json.dumps(asdict(facts)), encoding="utf-8")
    accelerator.wait_for_everyone()
    torch.save(own, temporary / f"process-{accelerator.process_index}.pt")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        finish_folder(path)
    accelerator.wait_for_everyone()
    return path


def load(path: Path, modules: Modules, process: int, n_processes: int) -> SavedCheckpoint:
    """Reads a checkpoint; the nets' weights go into ``modules``.

    Raises:
        CheckpointError: it cannot be read, or belongs to another number of processes or another base.
    """
    try:
        facts = CheckpointFacts(**json.loads((path / STATE_FILE).read_text(encoding="utf-8")))
        if facts.n_processes != n_processes:
            raise CheckpointError(
                f"{path}: written by {facts.n_processes} processes, this run has {n_processes}; the data are split over "
                "them: go on with as many, or start a new folder"
            )
        if facts.base != base_digest(modules.base):
            raise CheckpointError(f"{path}: trained over another base; go on with that one, or start a new folder")
        shared = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
        own = torch.load(path / f"process-{process}.pt", map_location="cpu", weights_only=True)
        load_trained_nets(modules, path)
    except (OSError, ValueError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError, WeightsError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise CheckpointError(f"{path}: cannot be read ({reason}); remove it, and the one before is used") from error
    return SavedCheckpoint(facts, shared, own)


def require_same_embedder(path: Path, facts: CheckpointFacts, embedder: str) -> None:
    """Raises CheckpointError where the identity loss had another recogniser than now; ``embedder`` as in ``CheckpointFacts``."""
    if facts.embedder and facts.embedder != embedder:
        raise CheckpointError(
            f"{path}: trained with the identity loss of {facts.embedder}, this run has {embedder or 'none'}; go on with the "
            "same --embedder, or start a new folder"
        )


def prune(out: Path, keep: int) -> None:
    """Removes all checkpoints but the newest ``keep``."""
    for path in checkpoints(out)[:-keep]:
        remove_folder(path)


def generators() -> dict[str, Any]:
    """State of torch's global generators. Nothing here draws from them; a library might."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_generators(state: dict[str, Any]) -> None:
    """The inverse of ``generators``."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def base_digest(base: Base) -> str:
    """Tells bases apart by their outermost layers: a few kilobytes instead of all their gigabytes."""
    digest = hashlib.sha256()
    for part in outermost(base):
        digest.update(part.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def outermost(base: Base) -> Iterator[torch.Tensor]:
    """A few layers that training a base anew changes."""
    yield base.unet.conv_in.weight
    yield base.unet.conv_out.weight
    yield base.vae.encoder.conv_in.weight
    yield base.vae.decoder.conv_out.weight
    yield base.text_encoder_2.text_projection.weight
