"""Means with intervals by resampling identities, since identities are the sampled unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

LEVEL = 0.95
NORMAL_QUANTILE = 1.959964
"""Quantile of the standard normal distribution for ``LEVEL``."""


@dataclass(frozen=True)
class Bootstrap:
    """Settings of the resampling; every row and column uses the same draws.

    Attributes:
        resamples: for means.
        fid_resamples: for FID; each one solves an eigenvalue problem.
    """

    resamples: int = 2000
    fid_resamples: int = 100
    seed: int = 0

    def draws(self, n_identities: int, resamples: int) -> NDArray[np.int64]:
        """Return (resamples, n_identities) indices of identities, drawn with replacement."""
        return np.random.default_rng(self.seed).integers(0, n_identities, (resamples, n_identities))


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        low, high: None with fewer than two measured identities.
        n: number of images.
    """

    value: float
    low: float | None
    high: float | None
    n: int


def mean_estimate(by_identity: Sequence[Sequence[float]], bootstrap: Bootstrap) -> Estimate | None:
    """Return the mean over all images, with a percentile interval from resampled identities.

    Images of an identity are similar, so an interval from resampled images would be too narrow.

    Args:
        by_identity: numbers of the images per identity; NaN for an image that could not be measured.

    Returns:
        None without measurements.
    """
    values = [np.asarray(numbers, np.float64) for numbers in by_identity]
    kept = [numbers[np.isfinite(numbers)] for numbers in values]
    kept = [numbers for numbers in kept if len(numbers)]
    if not kept:
        return None
    sums, sizes = np.array([numbers.sum() for numbers in kept]), np.array([len(numbers) for numbers in kept])
    mean = float(sums.sum() / sizes.sum())
    if len(kept) < 2:
        return Estimate(mean, None, None, int(sizes.sum()))
    drawn = bootstrap.draws(len(kept), bootstrap.resamples)  # (R, identities)
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)  # (R,)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean, float(low), float(high), int(sizes.sum()))
