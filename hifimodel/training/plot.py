"""The curves of a run as an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hifimodel.training.metrics import read_csv

SMOOTHING = 0.9


def write_plot(out: Path) -> None:
    """Write ``loss.png`` from ``metrics.csv`` and ``probe.csv`` of a run: noise MSE and identity cosine."""
    rows, probes = read_csv(out / "metrics.csv"), read_csv(out / "probe.csv")
    figure = Figure(figsize=(10, 4))
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, gridspec_kw={"left": 0.07, "right": 0.98, "bottom": 0.13, "top": 0.96})
    _curve(left, _column(rows, "step"), _column(rows, "noise_mse"), "training batches")
    left.plot(_column(probes, "step"), _column(probes, "probe_mse"), "ko-", label="fixed samples, noise and timesteps")
    left.set(xlabel="step", ylabel="noise MSE (Eq. 6)", yscale="log")
    left.legend()
    _curve(right, _column(rows, "step"), _column(rows, "identity_cosine"), "denoised face to references")
    right.set(xlabel="step", ylabel="cosine (Eq. 7)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(out / "loss.png", dpi=100)


def _column(rows: list[dict[str, str]], name: str) -> NDArray[np.float64]:
    return np.array([float(row[name]) for row in rows])


def _curve(axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], label: str) -> None:
    """Plot the values in grey, and their exponential mean."""
    known = np.isfinite(values)
    steps, values = steps[known], values[known]
    smooth, weight = np.zeros_like(values), 0.0
    total = 0.0
    for place, value in enumerate(values):
        total = SMOOTHING * total + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        smooth[place] = total / weight
    axes.plot(steps, values, color="0.8")
    axes.plot(steps, smooth, label=label)
