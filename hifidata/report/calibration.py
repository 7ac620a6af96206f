"""Calibration of the similarity threshold on the dataset itself.

Identity verification accepts an image whose similarity to the centre of its identity exceeds a threshold. Here each kept
image is compared with the centres of all other identities. A comparison above the threshold is a false accept. This gives
the threshold for a false accept rate (FAR). It is valid for this embedder and these identities; the paper's 0.7 is not.

A chosen FAR is stored in ``manifests/calibration.json``. It is no part of the recipe, because it changes only the report.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hifidata.core.errors import DatasetError, UsageError
from hifidata.core.json_file import read_object
from hifidata.core.schema import Status
from hifidata.report.manifests import Manifests
from hifidata.store.layout import DatasetFolder, write_json

F32 = NDArray[np.float32]

PAPER_THRESHOLD = 0.7
"""Threshold of section 3.4, for InsightFace's embedder."""

MIN_IDENTITIES = 5
MIN_FALSE_ACCEPTS = 10
"""Minimum number of expected false accepts for a reliable FAR."""

PRESET_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""FARs to try without a chosen FAR; the lowest supported FAR is used."""

MAX_IDENTITIES, MAX_IMAGES_PER_IDENTITY = 1000, 20
"""Limits that bound the similarities to 80 MB. Ids are hashes, so the first ids are a uniform sample."""

RESAMPLES = 200
INTERVAL = (0.025, 0.975)

TIE_RATIO = 1.5
"""Comparisons tie if the FAR just below the threshold is more than this multiple of the FAR."""

HIGH_FALSE_REJECT_RATE = 1 / 3
"""From this false reject rate, a threshold does not separate identities."""


@dataclass(frozen=True)
class Threshold:
    """Error rates of one threshold on this dataset.

    Attributes:
        source: origin of the threshold.
        value: cosine; an image is accepted above this value.
        strangers_accepted: false accept rate: share of the comparisons with other identities that are accepted.
        own_lost: false reject rate: share of the images in the identities' largest clusters that are rejected.
    """

    source: str
    value: float
    strangers_accepted: float
    own_lost: float


@dataclass(frozen=True)
class Calibration:
    """The similarity threshold for a false accept rate (FAR).

    Attributes:
        embedding_model: name of the embedder.
        far: the FAR: the requested rate, otherwise the chosen rate, otherwise the lowest supported preset rate.
        chosen: the FAR that is stored with the dataset; the dataset may no longer support it. None: not chosen.
        threshold: cosine for ``far``.
        low, high: 95 % confidence interval of the threshold, from resampled identities.
        n_people: number of identities.
        n_pictures: number of images.
        n_comparisons: number of comparisons of an image with the centre of another identity.
        thresholds: error rates of this threshold, the recipe's and the paper's.
        next_rate: FAR just below the threshold; much higher than ``far`` if many comparisons tie.
        closest: names of the two identities with the most similar centres: possible duplicates.
        closest_similarity: cosine of these two centres.
    """

    embedding_model: str
    far: float
    chosen: float | None
    threshold: float
    low: float
    high: float
    n_people: int
    n_pictures: int
    n_comparisons: int
    thresholds: tuple[Threshold, ...]
    next_rate: float
    closest: tuple[str, str]
    closest_similarity: float

    @property
    def why(self) -> str:
        """Reason for the FAR, and a note if comparisons tie."""
        if self.far == self.chosen:
            reason = "the rate chosen for this dataset."
        else:
            reason = (
                "the lowest preset rate that this dataset supports "
                f"(at least {MIN_FALSE_ACCEPTS} expected false accepts)."
            )
            if self.chosen is not None:
                reason += f" The dataset is too small for the chosen rate of {format_rate(self.chosen)}."
        return f"FAR {format_rate(self.far)}: {reason}{self._tie}"

    @property
    def reached(self) -> float:
        """FAR of the threshold: ``far``, or less if comparisons tie."""
        return self.thresholds[0].strangers_accepted

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about thresholds with a high false reject rate."""
        high = [row for row in self.thresholds if row.own_lost >= HIGH_FALSE_REJECT_RATE]
        if not high:
            return ()
        rates = ", ".join(f"{row.own_lost:.1%} with the threshold of {row.source}" for row in high)
        return (
            f"High false reject rate: {rates}. Such a threshold does not separate identities. "
            "Possible causes: duplicate identities, or an embedder that does not fit these images.",
        )

    @property
    def _tie(self) -> str:
        if self.next_rate <= TIE_RATIO * self.far:
            return ""
        return (
            f" Many comparisons have the same similarity: the FAR is {format_rate(self.reached)} at this threshold and "
            f"{format_rate(self.next_rate)} just below it."
        )


@dataclass(frozen=True)
class _Comparisons:
    """Comparisons of all kept images with the centres of all other identities.

    Attributes:
        scores: (n, p) float32 cosines of n images and p centres; -2 for the image's own centre.
        owner: (n,) index of each image's identity.
    """

    scores: F32
    owner: NDArray[np.int64]

    @property
    def n(self) -> int:
        """Number of comparisons."""
        return int(self.scores.size - len(self.owner))

    def share_above(self, threshold: float) -> float:
        """Return the share of the comparisons above a threshold."""
        return float((self.scores > threshold).sum() / self.n)

    def share_from(self, threshold: float) -> float:
        """Return the share of the comparisons at or above a threshold."""
        return float((self.scores >= np.float32(threshold)).sum() / self.n)


def chosen_rate(dataset_dir: Path) -> float | None:
    """Read the FAR that ``choose`` stored; None without a stored FAR. Raises DatasetError if its file is damaged."""
    path = DatasetFolder(dataset_dir).calibration_json
    if not path.exists():
        return None
    try:
        far = float(read_object(path)["far"])
        _check_rate(far)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, UsageError) as error:
        raise DatasetError(
            f'{path}: not a false accept rate ({" ".join(str(error).split())}); expected {{"far": 0.01}}; delete the file, or '
            "choose a rate with `hifidata calibrate DIR --far 0.01`"
        ) from error
    return far


def choose(dataset_dir: Path, far: float) -> None:
    """Store a FAR with the dataset: later reports show its threshold. Raises UsageError if ``far`` is not a rate."""
    _check_rate(far)
    folder = DatasetFolder(dataset_dir)
    folder.require_no_links(folder.manifests)
    write_json(folder.calibration_json, {"far": far}, private=True)


def format_rate(rate: float) -> str:
    """Format a rate with four digits: ``0.1 %``."""
    return f"{100 * rate:.4g} %"


def _check_rate(far: float) -> None:
    if not 0 < far < 1:
        raise UsageError(f"--far {far}: expected a rate between 0 and 1, for example 0.001")


def calibrate(dataset_dir: Path, far: float | None, recipe_threshold: float | None) -> Calibration:
    """Compute the similarity threshold for a false accept rate (FAR).

    Args:
        dataset_dir: a finished dataset folder.
        far: FAR above 0 and below 1. None: the chosen rate of this dataset; if there is none or the dataset is too small
            for it, the lowest of ``PRESET_RATES`` that the dataset supports.
        recipe_threshold: ``verify.min_similarity`` of the recipe; None without a threshold.

    Raises:
        UsageError: ``far`` is not a rate.
        DatasetError: there are no embeddings, too few identities, or too few comparisons for ``far``; the message names the
            supported rate.

    Source: the paper (section 3.4) has one threshold for all data. Our addition: calibration for the embedder and the data.
    """
    chosen = chosen_rate(dataset_dir) if far is None else far
    if chosen is not None:
        _check_rate(chosen)
    manifests = Manifests(dataset_dir)
    names, centres, embeddings, owner, model = _embeddings(manifests, dataset_dir)
    compared = _compare(embeddings, owner, centres)
    if far is None:
        rates = (rate for rate in (chosen, *PRESET_RATES) if rate and compared.n * rate >= MIN_FALSE_ACCEPTS)
        far = next(rates, PRESET_RATES[-1])
    if compared.n * far < MIN_FALSE_ACCEPTS:
        lowest = math.ceil(1e4 * MIN_FALSE_ACCEPTS / compared.n) / 1e4
        raise DatasetError(
            f"{dataset_dir}: {compared.n} comparisons between {len(names)} identities are too few for a false accept rate of "
            f"{far:g}; add identities, or use --far {lowest:g} or higher"
        )
    value, (low, high) = _threshold(compared, far), _interval(compared, far, len(names))
    own = _own_similarities(manifests)
    sources = {"this dataset": value, "the recipe": recipe_threshold, "the paper, for InsightFace": PAPER_THRESHOLD}
    between = centres @ centres.T - 3 * np.eye(len(names), dtype=np.float32)
    first, second = divmod(int(between.argmax()), len(names))
    return Calibration(
        model, far, chosen, value, low, high, len(names), len(owner), compared.n,
        tuple(
            Threshold(source, number, compared.share_above(number), float((own <= number).mean()) if own.size else 0.0)
            for source, number in sources.items() if number is not None
        ),
        compared.share_from(value), (names[first], names[second]), float(between[first, second]),
    )  # fmt: skip


def _embeddings(manifests: Manifests, dataset_dir: Path) -> tuple[list[str], F32, F32, NDArray[np.int64], str]:
    """Read names and centres (p, d) of p identities, embeddings (n, d) and identity index (n,) of n images, and the model."""
    identities = (
        manifests.identities(
            ["identity_id", "identity_name", "target_embedding"],
            (pc.field("n_kept") > 0) & pc.field("target_embedding").is_valid(),
        )
        .sort_by("identity_id")
        .slice(0, MAX_IDENTITIES)
    )
    if identities.num_rows < MIN_IDENTITIES:
        raise DatasetError(
            f"{dataset_dir}: {identities.num_rows} identities with verified images, a threshold needs at least "
            f"{MIN_IDENTITIES}; {_remedy(manifests)}"
        )
    ids = identities["identity_id"].combine_chunks()
    kept = pc.field("status") == str(Status.KEPT)
    images = manifests.images(
        ["identity_id", "image_id", "embedding", "embedding_model"],
        kept & pc.field("embedding").is_valid() & pc.field("identity_id").isin(ids),
    ).sort_by([("identity_id", "ascending"), ("image_id", "ascending")])
    owner = np.asarray(pc.index_in(images["identity_id"], value_set=ids)).astype(np.int64)
    number = np.arange(len(owner)) - np.searchsorted(owner, owner)  # of the image within its identity; owner is sorted
    used = np.flatnonzero(number < MAX_IMAGES_PER_IDENTITY)
    embeddings = _matrix(images["embedding"].take(pa.array(used)))
    model = str(images["embedding_model"][0].as_py())
    centres = _matrix(identities["target_embedding"])
    return identities["identity_name"].to_pylist(), centres, embeddings, owner[used], model


def _remedy(manifests: Manifests) -> str:
    if manifests.images(["image_id"], pc.field("embedding_model").is_valid()).num_rows:
        return "add identities"
    n_kept = manifests.identities(["identity_id"], pc.field("n_kept") > 0).num_rows
    set_model = "set verify.model and run again"
    return set_model if n_kept >= MIN_IDENTITIES else f"add identities, {set_model}"


def _matrix(column: pa.ChunkedArray) -> F32:
    flat = pc.list_flatten(column.combine_chunks())
    return np.asarray(flat, np.float32).reshape(len(column), -1)


def _own_similarities(manifests: Manifests) -> F32:
    """Read the cosines to the centre of all images in the largest cluster of their identity, kept or not."""
    images = manifests.images(["similarity"], (pc.field("cluster") == 0) & pc.field("similarity").is_valid())
    return np.asarray(images["similarity"], np.float32)


def _compare(embeddings: F32, owner: NDArray[np.int64], centres: F32) -> _Comparisons:
    scores = embeddings @ centres.T  # (n, p)
    scores[np.arange(len(owner)), owner] = -2
    return _Comparisons(scores, owner)


def _threshold(compared: _Comparisons, far: float) -> float:
    """Return the lowest similarity that at most ``far`` of the comparisons exceed."""
    n_accepted = math.floor(far * compared.n)
    return float(np.partition(compared.scores.ravel(), -n_accepted - 1)[-n_accepted - 1])


def _interval(compared: _Comparisons, far: float, n_identities: int) -> tuple[float, float]:
    """Compute the 95 % bootstrap interval of the threshold.

    Identities are resampled instead of comparisons, because comparisons of one identity are not independent.
    """
    flat = compared.scores.ravel()
    n_tail = min(compared.n, math.ceil(20 * far * compared.n))
    tail = np.argpartition(flat, -n_tail)[-n_tail:]
    tail = tail[np.argsort(-flat[tail], kind="stable")]
    owner, centre = compared.owner[tail // n_identities], tail % n_identities
    images_of = np.bincount(compared.owner, minlength=n_identities)
    rng = np.random.default_rng(0)
    thresholds = []
    for _ in range(RESAMPLES):
        weight = np.bincount(rng.integers(n_identities, size=n_identities), minlength=n_identities).astype(np.float64)
        total = float((weight * images_of * (weight.sum() - weight)).sum())
        accepted = np.cumsum(weight[owner] * weight[centre])
        thresholds.append(float(flat[tail[min(int(np.searchsorted(accepted, far * total, side="right")), n_tail - 1)]]))
    low, high = np.quantile(thresholds, INTERVAL)
    return float(low), float(high)
