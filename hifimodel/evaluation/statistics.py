"""A mean and how sure it is: people are what was sampled, so people are what is resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

LEVEL = 0.95
NORMAL_QUANTILE = 1.959964
"""Of a standard normal distribution, for ``LEVEL``."""


@dataclass(frozen=True)
class Bootstrap:
    """How often, and from which seed; the same seed draws the same people for every row and column.

    Attributes:
        resamples: for means.
        fid_resamples: for FID, each of which costs an eigenvalue problem.
    """

    resamples: int = 2000
    fid_resamples: int = 100
    seed: int = 0

    def draws(self, n_people: int, resamples: int) -> NDArray[np.int64]:
        """(resamples, n_people) places of the people drawn, with replacement."""
        return np.random.default_rng(self.seed).integers(0, n_people, (resamples, n_people))


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        low, high: None where fewer than two people were measured.
        n: pictures that it is the mean of.
    """

    value: float
    low: float | None
    high: float | None
    n: int


def mean_estimate(by_person: Sequence[Sequence[float]], bootstrap: Bootstrap) -> Estimate | None:
    """Mean over all pictures, with a percentile interval from resampled people.

    Pictures of one person resemble one another, so an interval from resampled pictures would be too narrow.

    Args:
        by_person: for each person the pictures' numbers; NaN where a picture could not be measured.

    Returns:
        None where nothing was measured.
    """
    values = [np.asarray(numbers, np.float64) for numbers in by_person]
    kept = [numbers[np.isfinite(numbers)] for numbers in values]
    kept = [numbers for numbers in kept if len(numbers)]
    if not kept:
        return None
    sums, sizes = np.array([numbers.sum() for numbers in kept]), np.array([len(numbers) for numbers in kept])
    mean = float(sums.sum() / sizes.sum())
    if len(kept) < 2:
        return Estimate(mean, None, None, int(sizes.sum()))
    drawn = bootstrap.draws(len(kept), bootstrap.resamples)  # (R, people)
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)  # (R,)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean, float(low), float(high), int(sizes.sum()))
