"""`python -m benchmarks.quality --mixtures`: folders that hold several people, drawn from the labelled photos.

Each photo is embedded once. Each draw is a folder of embeddings, which the stage ``verify`` judges. docs/quality.md explains
the cases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from hifidata.config.sections import VerifyConfig
from hifidata.core.schema import Row
from hifidata.stages.verify import SEVERAL_PEOPLE, Verify

DRAWS = 60
MIN_FACE_PX = 60
MIN_PHOTOS = 6
"""Fewest photos of a person who is meant, except in the case of five photos."""

PAINTED = frozenset({"newton_man"})
"""Persons without a photo."""

SHAPES = ((6, 6, 6), (7, 6, 5), (5, 5, 5, 5), (8, 4, 4), (7, 7), (9, 5), (8, 6, 3))

EMBEDDINGS_ONLY = (
    "quality.model=null", "watermark.model=null", "occlusion.model=null", "face3d.model=null", "landmarks.model=null",
    "attributes.model=null", "attributes.gender_from_name=false", "caption.model=null", "crop.min_side_px=1",
    "crop.min_face_share=0", "crop.output_px=256", "verify.min_images=1", "failures.max_share=1",
)  # fmt: skip
"""Overrides that leave the stages before ``verify``, with the limits on the size of the face open."""

Photos = Mapping[str, Sequence[NDArray[np.float32]]]
"""Embeddings by person."""

Folder = tuple[list[NDArray[np.float32]], list[int]]
"""Embeddings, and the number of each one's person. Person 0 is meant, if one is."""


@dataclass
class Tally:
    """Results of the draws of one case.

    Attributes:
        n, refused, too_few: draws; draws with the reason several_people; draws without a kept image for another reason.
        mixed, strangers: draws with kept images of several people; kept images that do not show the person kept most.
        other: draws that keep a person with fewer images than another.
        lost, own: dropped and all images of the person kept most.
    """

    n: int = 0
    refused: int = 0
    too_few: int = 0
    mixed: int = 0
    strangers: int = 0
    other: int = 0
    lost: int = 0
    own: int = 0

    def add(self, people: Sequence[int], reasons: Sequence[str | None]) -> None:
        """Count one draw: the person and the reason of each image; None for kept images."""
        self.n += 1
        kept = Counter(person for person, reason in zip(people, reasons, strict=True) if reason is None)
        if not kept:
            is_refused = SEVERAL_PEOPLE in reasons
            self.refused, self.too_few = self.refused + is_refused, self.too_few + (not is_refused)
            return
        (chosen, n_kept), sizes = kept.most_common(1)[0], Counter(people)
        self.mixed += len(kept) > 1
        self.strangers += kept.total() - n_kept
        self.other += sizes[chosen] < max(sizes.values())
        self.lost, self.own = self.lost + sizes[chosen] - n_kept, self.own + sizes[chosen]

    def cells(self) -> tuple[object, ...]:
        """Return the columns of the table."""
        return self.n, self.mixed, self.strangers, self.refused, self.too_few, self.other, f"{self.lost} of {self.own}"


def shape_of(sizes: Sequence[int], photos: Photos, rng: np.random.Generator) -> Folder:
    """Draw a person for each size, and so many photos of this person."""
    people: list[str] = []
    for size in sorted(sizes, reverse=True):
        fitting = [name for name in sorted(photos) if len(photos[name]) >= size and name not in people]
        if not fitting:  # too few people with so many photos: draw again
            return shape_of(sizes, photos, rng)
        people.append(str(rng.choice(fitting)))
    drawn = [_some(photos[name], size, rng) for name, size in zip(people, sorted(sizes, reverse=True), strict=True)]
    return _folder(drawn)


def with_strangers(share: float, photos: Photos, rng: np.random.Generator) -> Folder:
    """Draw a person with all photos, and photos of other people; each gives one photo before any gives a second one."""
    person = _meant(photos, rng)
    n = round(len(photos[person]) * share / (1 - share))
    others = rng.permutation([name for name in sorted(photos) if name != person])
    in_turn = [(turn, name) for turn in range(n) for name in others if turn < len(photos[name])][:n]
    return _folder([photos[person], *([photos[name][turn]] for turn, name in in_turn)])


def with_companion(share: float, photos: Photos, rng: np.random.Generator) -> Folder:
    """Draw a person, and photos of one other person, who has this share of the folder."""
    person = _meant(photos, rng)
    fitting = [
        name for name in sorted(photos) if name != person and len(photos[name]) >= MIN_PHOTOS * share / (1 - share)
    ]
    other = str(rng.choice(fitting))
    n = min(len(photos[person]), int(len(photos[other]) * (1 - share) / share))
    return _folder([_some(photos[person], n, rng), _some(photos[other], round(n * share / (1 - share)), rng)])


def alone(n: int | None, photos: Photos, rng: np.random.Generator) -> Folder:
    """Draw n photos of a person with at least n; None: all photos of a person."""
    if n is None:
        return _folder([photos[_meant(photos, rng)]])
    person = str(rng.choice([name for name in sorted(photos) if len(photos[name]) >= n]))
    return _folder([_some(photos[person], n, rng)])


CASES: Mapping[str, Callable[[Photos, np.random.Generator], Folder]] = {
    **{" + ".join(map(str, sizes)): partial(shape_of, sizes) for sizes in SHAPES},
    "30 % strangers": partial(with_strangers, 0.3),
    "50 % strangers": partial(with_strangers, 0.5),
    "one companion, 20 %": partial(with_companion, 0.2),
    "one companion, 30 %": partial(with_companion, 0.3),
    "one other person, 45 %": partial(with_companion, 0.45),
    "five photos of one person": partial(alone, 5),
    "all photos of one person": partial(alone, None),
}


def photos_of(rows: Sequence[Row], is_good: Callable[[Row], bool]) -> dict[str, list[NDArray[np.float32]]]:
    """Return the embeddings of the good photos by person, without duplicates and small faces."""
    photos: dict[str, list[NDArray[np.float32]]] = {}
    for row in sorted(rows, key=lambda row: str(row["source_uri"])):
        if row["embedding"] is None or row["duplicate_of"] or row["identity_name"] in PAINTED or not is_good(row):
            continue
        if max(row[f"face_{axis}2_px"] - row[f"face_{axis}1_px"] for axis in "xy") >= MIN_FACE_PX:
            photos.setdefault(row["identity_name"], []).append(np.asarray(row["embedding"], np.float32))
    return photos


def folders_of(photos: Photos, draws: int = DRAWS) -> dict[str, list[Folder]]:
    """Draw the folders of each case. The same photos give the same folders."""
    return {
        name: [draw(photos, rng) for rng in map(np.random.default_rng, range(draws))] for name, draw in CASES.items()
    }


def judge(folders: Sequence[Folder], config: VerifyConfig) -> Tally:
    """Run the stage ``verify`` on folders."""
    tally = Tally()
    for embeddings, people in folders:
        rows: list[Row] = [{"embedding": embedding} for embedding in embeddings]
        for name, values in Verify.derive(rows, config).items():
            for row, value in zip(rows, values, strict=True):
                row[name] = value
        verdicts = [Verify.decide(row, config) for row in rows]
        tally.add(people, [None if verdict is None else verdict.reason for verdict in verdicts])
    return tally


def mixtures_table(
    folders: Mapping[str, Sequence[Folder]], configs: Mapping[str, VerifyConfig]
) -> Iterator[tuple[object, ...]]:
    """Yield rows (method, case, and the columns of ``Tally.cells``)."""
    for method, config in configs.items():
        for name, drawn in folders.items():
            yield method, name, *judge(drawn, config).cells()


def limits_table(
    folders: Mapping[str, Sequence[Folder]], config: VerifyConfig, step: float
) -> Iterator[tuple[object, ...]]:
    """Yield rows (pair limit, centre limit, and the columns of ``Tally.cells`` over all cases) around the limits of a recipe."""
    everything = [folder for drawn in folders.values() for folder in drawn]
    near = [step * i for i in range(-2, 3)]
    for more_pair, more_centre in product(near, near):
        pair, centre = (config.min_pair_similarity or 0) + more_pair, (config.min_similarity or 0) + more_centre
        limits = {"min_pair_similarity": pair, "min_similarity": centre}
        yield f"{pair:.3f}", f"{centre:.3f}", *judge(everything, config.model_copy(update=limits)).cells()


def _meant(photos: Photos, rng: np.random.Generator) -> str:
    return str(rng.choice([name for name in sorted(photos) if len(photos[name]) >= MIN_PHOTOS]))


def _some(photos: Sequence[NDArray[np.float32]], n: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    return [photos[i] for i in rng.permutation(len(photos))[:n]]


def _folder(groups: Sequence[Sequence[NDArray[np.float32]]]) -> Folder:
    return [photo for group in groups for photo in group], [i for i, group in enumerate(groups) for _ in group]
