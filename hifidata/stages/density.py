"""The densest group of an identity's embeddings, and the second one.

Source: the medoid of a density peak, after Rodriguez and Laio, Science 344, 2014: the image with most neighbours stands for
the group. The paper (section 3.4) uses k-means, which puts two similar people into one cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

BLOCK_ROWS = 256
"""Rows of the similarity matrix in memory at a time, 10 MB for 10,000 images. The whole matrix is never made."""

MIN_GROUP = 2
"""Fewer images are no second group."""


@dataclass(frozen=True)
class Groups:
    """The groups of n embeddings.

    Attributes:
        labels: (n,) int32: 0 for the neighbours of the medoid, 1 for the second group, -1 for all others. The second group
            has the rows near the medoid or the mean of the densest group of those that do not match.
        similarities: (n,) float32 cosines to the mean of the first group.
        n_matching: number of rows above the centre limit.
        n_second: number of rows of the second group; 0 without one.
    """

    labels: NDArray[np.int32]
    similarities: NDArray[np.float32]
    n_matching: int
    n_second: int


def find_groups(embeddings: NDArray[np.float32], min_pair_similarity: float, min_similarity: float) -> Groups:
    """Find the densest group, the images near its mean, and the densest group of the other images.

    The result of a row does not depend on the order of the rows.

    Args:
        embeddings: (n, d) float32, L2 norm 1, n >= 1.
        min_pair_similarity: two rows with at least this cosine are neighbours.
        min_similarity: rows match with a cosine to the mean above it.
    """
    order = sorted(range(len(embeddings)), key=lambda i: embeddings[i].tobytes())
    rows = embeddings[order]
    labels = np.full(len(rows), -1, np.int32)
    with _blas().limit(limits=1):  # with several threads, the order of a sum would depend on the machine's load
        first = _densest(rows, min_pair_similarity)
        similarities = (rows @ target_embedding(rows[first])).astype(np.float32)
        others = np.flatnonzero(~(similarities > min_similarity))
        rest = rows[others]
        core = _densest(rest, min_pair_similarity)
        near = np.flatnonzero(rest @ target_embedding(rest[core]) > min_similarity) if len(rest) else core
        second = others[np.union1d(core, near)]
    if len(second) < MIN_GROUP:
        second = second[:0]
    labels[second] = 1
    labels[first] = 0
    back = np.argsort(order)
    return Groups(labels[back], similarities[back], len(rows) - len(others), len(second))


def target_embedding(members: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the centre of a group's members (m, d), scaled to L2 norm 1: (d,) float32."""
    centre = members.astype(np.float64).mean(axis=0)
    target: NDArray[np.float32] = (centre / max(float(np.linalg.norm(centre)), 1e-12)).astype(np.float32)
    return target


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()  # a new one for each identity would take longer than the groups


def _densest(rows: NDArray[np.float32], min_pair_similarity: float) -> NDArray[np.int64]:
    """Return the indices of the neighbours of the row with most neighbours; of equal rows, with the most similar ones."""
    if not len(rows):
        return np.empty(0, np.int64)
    best, medoid = (-1, -1.0), 0
    for start in range(0, len(rows), BLOCK_ROWS):
        cosines = rows[start : start + BLOCK_ROWS] @ rows.T  # (BLOCK_ROWS, n)
        is_near = cosines >= min_pair_similarity
        counts, totals = is_near.sum(axis=1), cosines.sum(axis=1, where=is_near, dtype=np.float64)
        i = int(np.lexsort((totals, counts))[-1])
        if (here := (int(counts[i]), float(totals[i]))) > best:
            best, medoid = here, start + i
    neighbours: NDArray[np.bool_] = rows @ rows[medoid] >= min_pair_similarity
    neighbours[medoid] = True  # a norm may be rounded to less than 1
    return np.flatnonzero(neighbours)
