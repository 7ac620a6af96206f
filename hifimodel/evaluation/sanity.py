"""Checks on real photos: if they fail, the numbers of the table are not reliable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hifimodel.evaluation.metrics import COPY_PASTE, EXPRESSION, POSE
from hifimodel.evaluation.statistics import Estimate

TARGET, OTHER, PASTED = "the target itself", "a random other person", "a reference pasted"
ORDERS: Mapping[str, tuple[str, ...]] = {
    "Sim_f": (OTHER, TARGET, PASTED),
    "CLIP_f": (OTHER, TARGET, PASTED),
    EXPRESSION: (TARGET, PASTED),
    POSE: (TARGET, PASTED),
    COPY_PASTE: (TARGET, OTHER, PASTED),
}
"""Rows per column, the lowest number first. Expression and pose of another person are random, so they are not compared."""


@dataclass(frozen=True)
class Check:
    """A comparison of two sanity rows.

    Attributes:
        words: the expected order, with the numbers.
    """

    column: str
    words: str
    holds: bool


def sanity_checks(rows: Mapping[str, Mapping[str, Estimate | None]], columns: Sequence[str]) -> list[Check]:
    """Compare neighbours of ``ORDERS`` in every measured column.

    Args:
        rows: values by column, by sanity row.
        columns: to check; ``Sim_f arcface`` has the order of ``Sim_f``.
    """
    checks = []
    for column in columns:
        order = ORDERS.get(column.split(" ")[0], ())
        known = [(row, value.value) for row in order if (value := rows[row][column]) is not None]
        for (low, low_value), (high, high_value) in pairwise(known):
            words = f"{column}: {low} ({low_value:.1f}) below {high} ({high_value:.1f})"
            checks.append(Check(column, words, low_value < high_value))
    return checks
