"""The similarity threshold that the dataset itself supports.

A picture is taken for a person where it is similar enough to the centre of that person's pictures. How often a stranger
would be, the dataset can tell: every kept picture is a stranger to everybody else's centre. The threshold for a chosen
false-accept rate follows, and belongs to this embedder on these people, which the paper's 0.7 does not. The rate that was
chosen stays with the dataset, in ``manifests/calibration.json``: a choice of how to look at it, no part of its recipe.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hifidata.core.errors import DatasetError, UsageError
from hifidata.core.schema import Status
from hifidata.report.manifests import Manifests
from hifidata.store.layout import DatasetFolder, write_json

F32 = NDArray[np.float32]

PAPER_THRESHOLD = 0.7
"""Section 3.4, for InsightFace's embedder."""

MIN_PEOPLE = 5
MIN_ACCEPTS = 10
"""Fewer expected false accepts than this, and the rate is a guess."""

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Where nobody chose a rate, the first of these that the comparisons support."""

MAX_PEOPLE, MAX_PICTURES_PER_PERSON = 1000, 20
"""Bounds on memory: 80 MB of similarities. Ids are hashes, so the first ones are an even draw."""

RESAMPLES = 200
INTERVAL = (0.025, 0.975)

TIED = 1.5
"""Where the next lower threshold would let through this many times the rate, comparisons tie, and the rate is not reached."""

MANY_LOST = 1 / 3
"""A threshold that costs people this share of their own pictures tells them badly from strangers."""


@dataclass(frozen=True)
class Threshold:
    """What one threshold would do to this dataset.

    Attributes:
        source: where the number comes from.
        value: cosine; a picture has to be more similar than this.
        strangers_accepted: share of the comparisons with somebody else's centre that would pass.
        own_lost: share of the pictures in people's largest clusters that would not.
    """

    source: str
    value: float
    strangers_accepted: float
    own_lost: float


@dataclass(frozen=True)
class Calibration:
    """A threshold for a false-accept rate, and what it rests on.

    Attributes:
        far: the false-accept rate that was asked for, else chosen for this dataset, else the smallest of ``RATES`` that it
            supports.
        chosen: the rate that was chosen for this dataset, which it may no longer support; None: nobody chose.
        threshold: what gives it; ``low`` and ``high`` bound it with 95 % confidence, people being drawn anew.
        thresholds: this one, the recipe's and the paper's, side by side.
        next_rate: what would pass just below the threshold; far above ``far`` where many comparisons have the same similarity.
        closest: names of the two people whose centres are most alike; the same person under two names would be here.
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
        """Why this rate, in words that follow the number of comparisons."""
        if self.far == self.chosen:
            return f"it was chosen for this dataset{self._tie}"
        reason = "nobody chose a rate"
        if self.chosen is not None:
            reason = f"the chosen {rate_words(self.chosen)} would rest on fewer than {MIN_ACCEPTS} of them"
        if self.far == RATES[0]:
            return f"{reason}, and this is the usual one{self._tie}"
        return f"{reason}, and this is the smallest usual one that makes up {MIN_ACCEPTS} of them or more{self._tie}"

    @property
    def reached(self) -> float:
        """The false-accept rate at the threshold: ``far``, or less where comparisons tie."""
        return self.thresholds[0].strangers_accepted

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about thresholds that cost people too many of their own pictures."""
        costly = [row for row in self.thresholds if row.own_lost >= MANY_LOST]
        if not costly:
            return ()
        which = ", ".join(f"{row.own_lost:.1%} with the threshold of {row.source}" for row in costly)
        return (
            f"Much of people's own pictures would be lost: {which}. Such a threshold does not tell people from strangers; "
            "one person may be here under several names, or this embedder may not suit these pictures.",
        )

    @property
    def _tie(self) -> str:
        """Where comparisons tie at the threshold: what is reached, and what the next lower one would let pass."""
        if self.next_rate <= TIED * self.far:
            return ""
        return (
            f"; comparisons tie at this threshold, so that {rate_words(self.reached)} is reached, and just below it "
            f"{rate_words(self.next_rate)} would pass"
        )


@dataclass(frozen=True)
class _Strangers:
    """Every kept picture against every other person's centre.

    Attributes:
        scores: (n, p) float32 cosines of picture and centre; -2 where the centre is the picture's own.
        person: (n,) index of each picture's person.
    """

    scores: F32
    person: NDArray[np.int64]

    @property
    def n(self) -> int:
        """Comparisons."""
        return int(self.scores.size - len(self.person))

    def accepted(self, threshold: float) -> float:
        """Share of the comparisons above a threshold."""
        return float((self.scores > threshold).sum() / self.n)

    def accepted_from(self, threshold: float) -> float:
        """Share of the comparisons at a threshold or above."""
        return float((self.scores >= np.float32(threshold)).sum() / self.n)


def chosen_rate(dataset_dir: Path) -> float | None:
    """The false-accept rate that ``choose`` keeps; None: nobody chose. Raises DatasetError where its file is damaged."""
    path = DatasetFolder(dataset_dir).calibration_json
    if not path.exists():
        return None
    try:
        far = float(json.loads(path.read_text(encoding="utf-8"))["far"])
        _check_rate(far)
    except (OSError, ValueError, TypeError, KeyError, UsageError) as error:
        raise DatasetError(
            f'{path}: holds no rate ({" ".join(str(error).split())}); expected {{"far": 0.01}}; delete it, or choose again '
            "with `hifidata calibrate DIR --far 0.01`"
        ) from error
    return far


def choose(dataset_dir: Path, far: float) -> None:
    """Keeps a false-accept rate with the dataset: every later report shows its threshold. Raises UsageError for no rate."""
    _check_rate(far)
    write_json(DatasetFolder(dataset_dir).calibration_json, {"far": far})


def rate_words(far: float) -> str:
    """``0.1 %``, however small."""
    return f"{100 * far:.4g} %"


def _check_rate(far: float) -> None:
    if not 0 < far < 1:
        raise UsageError(f"--far {far}: expected a rate between 0 and 1, for example 0.001")


def calibrate(dataset_dir: Path, far: float | None, recipe_threshold: float | None) -> Calibration:
    """The threshold at which ``far`` of all comparisons between strangers pass.

    Args:
        dataset_dir: a finished dataset folder.
        far: false-accept rate, above 0 and below 1; None: the one chosen for this dataset, or where nobody chose or it is too
            small for what the dataset holds, the smallest of ``RATES`` that is not.
        recipe_threshold: ``verify.min_similarity`` of the recipe; None where it has none.

    Raises:
        UsageError: ``far`` is no rate.
        DatasetError: no embeddings, too few people, or too few comparisons for this rate; says which rate they support.

    Source: paper, section 3.4, has one threshold for all data; that it depends on embedder and data is our addition.
    """
    chosen = chosen_rate(dataset_dir) if far is None else far
    if chosen is not None:
        _check_rate(chosen)
    manifests = Manifests(dataset_dir)
    names, centres, pictures, person, model = _embeddings(manifests, dataset_dir)
    strangers = _compared(pictures, person, centres)
    if far is None:
        far = next((rate for rate in (chosen, *RATES) if rate and strangers.n * rate >= MIN_ACCEPTS), RATES[-1])
    if strangers.n * far < MIN_ACCEPTS:
        least = math.ceil(1e4 * MIN_ACCEPTS / strangers.n) / 1e4
        raise DatasetError(
            f"{dataset_dir}: {strangers.n} comparisons between {len(names)} people are too few for a false-accept rate of "
            f"{far:g}; add people, or ask for {least:g} or more (--far {least:g})"
        )
    value, (low, high) = _threshold(strangers, far), _interval(strangers, far, len(names))
    own = _own_similarities(manifests)
    wanted = {"this dataset": value, "the recipe": recipe_threshold, "the paper, for InsightFace": PAPER_THRESHOLD}
    between = centres @ centres.T - 3 * np.eye(len(names), dtype=np.float32)
    first, second = divmod(int(between.argmax()), len(names))
    return Calibration(
        model, far, chosen, value, low, high, len(names), len(person), strangers.n,
        tuple(
            Threshold(source, number, strangers.accepted(number), float((own <= number).mean()) if own.size else 0.0)
            for source, number in wanted.items() if number is not None
        ),
        strangers.accepted_from(value), (names[first], names[second]), float(between[first, second]),
    )  # fmt: skip


def _embeddings(manifests: Manifests, dataset_dir: Path) -> tuple[list[str], F32, F32, NDArray[np.int64], str]:
    """Names of p people, their centres (p, d), n kept pictures (n, d), whose they are (n,), and the embedder."""
    people = (
        manifests.identities(
            ["identity_id", "identity_name", "target_embedding"],
            (pc.field("n_kept") > 0) & pc.field("target_embedding").is_valid(),
        )
        .sort_by("identity_id")
        .slice(0, MAX_PEOPLE)
    )
    if people.num_rows < MIN_PEOPLE:
        raise DatasetError(
            f"{dataset_dir}: {people.num_rows} people with verified pictures, a threshold takes at least {MIN_PEOPLE}; "
            f"{_remedy(manifests)}"
        )
    ids = people["identity_id"].combine_chunks()
    kept = pc.field("status") == str(Status.KEPT)
    images = manifests.images(
        ["identity_id", "image_id", "embedding", "embedding_model"],
        kept & pc.field("embedding").is_valid() & pc.field("identity_id").isin(ids),
    ).sort_by([("identity_id", "ascending"), ("image_id", "ascending")])
    person = np.asarray(pc.index_in(images["identity_id"], value_set=ids)).astype(np.int64)
    place = np.arange(len(person)) - np.searchsorted(person, person)  # ids are sorted on both sides
    chosen = np.flatnonzero(place < MAX_PICTURES_PER_PERSON)
    pictures = _matrix(images["embedding"].take(pa.array(chosen)))
    model = str(images["embedding_model"][0].as_py())
    return people["identity_name"].to_pylist(), _matrix(people["target_embedding"]), pictures, person[chosen], model


def _remedy(manifests: Manifests) -> str:
    """What to do where too few people have verified pictures."""
    if manifests.images(["image_id"], pc.field("embedding_model").is_valid()).num_rows:
        return "add people"
    n_kept = manifests.identities(["identity_id"], pc.field("n_kept") > 0).num_rows
    set_model = "set verify.model and run again"
    return set_model if n_kept >= MIN_PEOPLE else f"add people, {set_model}"


def _matrix(column: pa.ChunkedArray) -> F32:
    flat = pc.list_flatten(column.combine_chunks())
    return np.asarray(flat, np.float32).reshape(len(column), -1)


def _own_similarities(manifests: Manifests) -> F32:
    """Cosines to the centre of every picture in its person's largest cluster, kept or not."""
    images = manifests.images(["similarity"], (pc.field("cluster") == 0) & pc.field("similarity").is_valid())
    return np.asarray(images["similarity"], np.float32)


def _compared(pictures: F32, person: NDArray[np.int64], centres: F32) -> _Strangers:
    scores = pictures @ centres.T  # (n, p)
    scores[np.arange(len(person)), person] = -2
    return _Strangers(scores, person)


def _threshold(strangers: _Strangers, far: float) -> float:
    """The smallest similarity that at most ``far`` of the comparisons exceed."""
    n_pass = math.floor(far * strangers.n)
    return float(np.partition(strangers.scores.ravel(), -n_pass - 1)[-n_pass - 1])


def _interval(strangers: _Strangers, far: float, n_people: int) -> tuple[float, float]:
    """95 % bootstrap interval of the threshold.

    People are drawn with replacement, not comparisons: those of one person are no independent evidence.
    """
    flat = strangers.scores.ravel()
    n_tail = min(strangers.n, math.ceil(20 * far * strangers.n))
    tail = np.argpartition(flat, -n_tail)[-n_tail:]
    tail = tail[np.argsort(-flat[tail], kind="stable")]
    owner, centre = strangers.person[tail // n_people], tail % n_people
    pictures_of = np.bincount(strangers.person, minlength=n_people)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        weight = np.bincount(rng.integers(n_people, size=n_people), minlength=n_people).astype(np.float64)
        total = float((weight * pictures_of * (weight.sum() - weight)).sum())
        passed = np.cumsum(weight[owner] * weight[centre])
        found.append(float(flat[tail[min(int(np.searchsorted(passed, far * total, side="right")), n_tail - 1)]]))
    low, high = np.quantile(found, INTERVAL)
    return float(low), float(high)
