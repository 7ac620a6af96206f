"""Metrics of a run: sums since the last row, a CSV that a resume continues, and optionally TensorBoard."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from hifidata.core.files import write_bytes
from hifimodel.errors import ConfigError, one_line
from hifimodel.training.step import StepResult

COLUMNS = (
    "step", "loss", "noise_mse", "identity_loss", "identity_cosine", "faces_share", "grad_norm",
    "seconds_per_step", "waiting_share",
)  # fmt: skip
"""Means over the steps since the last row. ``identity_loss`` is the term of ``loss``, a mean over all samples. ``faces_share``
of the samples passed the identity gate, and ``identity_cosine`` is their mean. ``waiting_share`` of the time is spent waiting
for data. The last two columns differ between runs, the others do not."""
PROBE_COLUMNS = ("step", "probe_mse")
SUMS = ("steps", "samples", "loss", "noise_mse", "identity_loss", "cosine", "faces", "grad_norm")


class MetricSums:
    """Sums since the last row, on the device, so that no step waits for a transfer.

    Args:
        device: of the sums.
    """

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(len(SUMS), device=device)

    def add(self, results: Sequence[StepResult], n_samples: int, grad_norm: Tensor) -> None:
        """Add an optimizer step: the results of its micro-batches, and their number of samples."""
        zero = grad_norm.new_zeros(())
        share = 1 / len(results)
        identities = [result.identity for result in results if result.identity is not None]
        self._sums += torch.stack([
            zero + 1,
            zero + n_samples,
            sum((result.loss.detach() for result in results), zero) * share,
            sum((result.noise_mse for result in results), zero) * share,
            sum((identity.loss for identity in identities), zero) * share,
            sum((identity.similarity * identity.n_gated for identity in identities if identity.n_gated), zero),
            zero + sum(identity.n_gated for identity in identities),
            grad_norm,
        ])  # fmt: skip

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the means over all processes; waits for the device."""
        sums = dict(zip(SUMS, accelerator.reduce(self._sums.clone(), "sum").tolist(), strict=True))
        per_step = {name: sums[name] / sums["steps"] for name in ("loss", "noise_mse", "identity_loss", "grad_norm")}
        faces = sums["faces"]
        return per_step | {
            "identity_cosine": sums["cosine"] / faces if faces else float("nan"),
            "faces_share": faces / sums["samples"],
        }

    def clear(self) -> None:
        """Reset all sums."""
        self._sums.zero_()

    @property
    def state(self) -> list[float]:
        """The sums, for a checkpoint."""
        return self._sums.tolist()

    def restore(self, state: Sequence[float]) -> None:
        """Restore the sums of ``state``."""
        self._sums.copy_(torch.tensor(state))


@dataclass
class Clock:
    """Times since the last row, in seconds."""

    steps: int = 0
    waiting_s: float = 0.0
    total_s: float = 0.0
    _began: float = field(default_factory=time.perf_counter)

    def start(self) -> None:
        """Start a step."""
        self._began = time.perf_counter()

    def got_batch(self, asked_at: float) -> None:
        """Add the time since ``asked_at`` of ``time.perf_counter``, the request for the batch."""
        self.waiting_s += time.perf_counter() - asked_at

    def stop(self) -> None:
        """End a step."""
        self.total_s += time.perf_counter() - self._began
        self.steps += 1

    def row(self) -> dict[str, float]:
        """Return the means and reset the times."""
        means = {
            "seconds_per_step": self.total_s / max(self.steps, 1),
            "waiting_share": self.waiting_s / max(self.total_s, 1e-9),
        }
        self.steps, self.waiting_s, self.total_s = 0, 0.0, 0.0
        return means


class CsvTable:
    """Rows of a CSV whose first column is the step. Numbers keep all their bits.

    Args:
        path: the file.
        columns: the header.
        step: rows after this step are removed; 0 removes all. A killed run can have rows after its last checkpoint.

    Raises:
        ConfigError: the file has other contents.
    """

    def __init__(self, path: Path, columns: Sequence[str], step: int) -> None:
        self._path, self._columns = path, columns
        rows = [row for row in _checked(path, columns) if int(row["step"]) <= step] if step else []
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: row[name] for name in columns} for row in rows)
        write_bytes(path, text.getvalue().encode())

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row."""
        with open(self._path, "a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(repr(row[name]) for name in self._columns)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV, without a truncated last line; no rows if there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))


def _checked(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        rows = read_csv(path)
        for row in rows:
            int(row["step"])
            [float(row[name]) for name in columns]
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        reason = one_line(error, 100)
        raise ConfigError(f"{path}: not the metrics of a run ({reason}); repair or remove it") from error
    return rows


def tensorboard(folder: Path, step: int) -> Any:
    """Return a ``SummaryWriter`` that continues after ``step``. Raises ConfigError if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "train.metrics: tensorboard is not installed; `pip install tensorboard`, or set it to csv"
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1)
