"""Rows of the table: metrics of a set of images, each compared with the photos of its identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hifidata.models.protocols import F32
from hifimodel.evaluation.faces import Face, Instruments, MeasuredImage
from hifimodel.evaluation.fid import fid_estimate
from hifimodel.evaluation.metrics import (
    ABOUT,
    CLIP,
    COPY_PASTE,
    DEFAULT_POSE_UNITS,
    EXPRESSION,
    EXPRESSION_UNITS,
    FID,
    POSE,
    POSE_UNITS,
    image_scores,
    spread_of,
)
from hifimodel.evaluation.sanity import OTHER, PASTED, TARGET
from hifimodel.evaluation.statistics import Bootstrap, Estimate, mean_estimate


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        n_expected: expected images.
        n_pictures: existing images.
        n_faces: images with a usable face; only these are in the means.
        values: None for a column without measurements.
    """

    name: str
    n_expected: int
    n_pictures: int
    n_faces: int
    values: Mapping[str, Estimate | None]


@dataclass(frozen=True)
class MeasuredPhotos:
    """The measured photos of an identity."""

    target: MeasuredImage
    references: tuple[MeasuredImage, ...]

    @property
    def faces(self) -> list[Face]:
        """Faces of the references."""
        return [photo.face for photo in self.references if photo.face is not None]


class Rows:
    """Makes rows, all compared with the same photos.

    Args:
        photos: of every identity of the set.
        instruments: the models of the measurements.
        bootstrap: of the intervals.
        real: Inception features for FID, as one group; None: those of the references, per identity.
    """

    def __init__(
        self,
        photos: Mapping[str, MeasuredPhotos],
        instruments: Instruments,
        bootstrap: Bootstrap,
        real: Sequence[F32] | None = None,
    ) -> None:
        self._photos, self._instruments, self._bootstrap = photos, instruments, bootstrap
        self._real = [_features(own.references) for own in photos.values()] if real is None else [list(real)]
        self._spread = spread_of(
            [(own.target.face, face) for own in photos.values() if own.target.face for face in own.faces]
        )

    def row(self, name: str, made: Mapping[str, Sequence[MeasuredImage]], n_expected: int) -> Row:
        """Make the row of some images per identity; an identity without images has an empty list."""
        scores = [
            [self._scores(one, self._photos[identity_id]) for one in images] for identity_id, images in made.items()
        ]
        values: dict[str, Estimate | None] = {
            column: mean_estimate([[one.get(column, np.nan) for one in own] for own in scores], self._bootstrap)
            for column in columns_of(self._instruments)
        }
        if self._instruments.inception is not None:
            values[FID] = fid_estimate([_features(images) for images in made.values()], self._real, self._bootstrap)
        everything = [one for images in made.values() for one in images]
        return Row(name, n_expected, len(everything), sum(one.face is not None for one in everything), values)

    def sanity(self) -> list[Row]:
        """Make three rows from photos of the set in the place of generated images."""
        names = list(self._photos)
        # Every identity is the other person of one identity: a ring in random order.
        ring = [names[place] for place in np.random.default_rng(self._bootstrap.seed).permutation(len(names))]
        others = dict(zip(ring, ring[1:] + ring[:1], strict=True)) if len(ring) > 1 else {}
        made: dict[str, dict[str, list[MeasuredImage]]] = {
            TARGET: {name: [self._photos[name].target] for name in names},
            OTHER: {name: [self._photos[others[name]].target] if others else [] for name in names},
            PASTED: {name: list(self._photos[name].references) for name in names},
        }
        return [self.row(row, images, sum(map(len, images.values()))) for row, images in made.items()]

    def _scores(self, one: MeasuredImage, photos: MeasuredPhotos) -> dict[str, float]:
        if one.face is None:
            return {}
        face3d = self._instruments.face3d
        factor = 100.0 if face3d is None else EXPRESSION_UNITS[face3d.name][0]
        return image_scores(one.face, photos.target.face, photos.faces, self._spread, factor)


def columns_of(instruments: Instruments) -> dict[str, str]:
    """Return the columns in order with their descriptions, including columns that cannot be measured."""
    measured = [f"Sim_f {name}" for name in instruments.recognisers]
    unmeasured = [name for name in instruments.missing if name.startswith("Sim_f ")]
    columns = dict.fromkeys([*measured, *unmeasured], ABOUT["Sim_f"])
    columns |= {name: ABOUT[name] for name in (CLIP, EXPRESSION, POSE, FID, COPY_PASTE)}
    if instruments.face3d is None:
        columns[COPY_PASTE] += " (by light only: no 3D face model)"
    else:
        model = instruments.face3d.name
        columns[EXPRESSION] += f" ({model}: {EXPRESSION_UNITS[model][1]})"
        columns[POSE] += f" ({model}: {POSE_UNITS.get(model, DEFAULT_POSE_UNITS)})"
    return columns


def _features(images: Sequence[MeasuredImage]) -> list[F32]:
    return [one.inception for one in images if one.inception is not None]
