"""The whole evaluation: what was generated, and three rows of real photos that show what the numbers mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hifimodel.errors import DataError
from hifimodel.evaluation.evalset import FAILED, Cell, EvalSet
from hifimodel.evaluation.faces import Instruments, MeasuredImage
from hifimodel.evaluation.rows import MeasuredPhotos, Row, Rows, columns_of
from hifimodel.evaluation.sanity import Check, sanity_checks
from hifimodel.evaluation.statistics import Bootstrap
from hifimodel.faces.photo import read_photo

GENERATED = "generated"
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
FEW_PEOPLE = 20
"""In 2000 simulations each, the truth lay in 84 % of the intervals from 5 people, in 90 % from 10 and in 93 % from 20."""
Update = Callable[[int, int], None]
"""Told how many pictures of how many were measured."""


@dataclass(frozen=True)
class Report:
    """A whole evaluation.

    Attributes:
        columns: what each column is, in words.
        missing: why a column is not measured, by column.
        notes: what a reader must know.
    """

    evalset_digest: str
    n_people: int
    rows: tuple[Row, ...]
    columns: Mapping[str, str]
    missing: Mapping[str, str]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]

    @property
    def in_order(self) -> bool:
        """Whether every check of the sanity rows holds."""
        return all(check.holds for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"in_order": self.in_order}


def evaluate(
    evalset: EvalSet,
    pictures: Path | None,
    instruments: Instruments,
    bootstrap: Bootstrap | None = None,
    real: Path | None = None,
    update: Update | None = None,
) -> Report:
    """Measures every picture once and makes the table.

    Args:
        evalset: the set.
        pictures: folder with a picture per cell; None for the rows of real photos alone.
        instruments: what to measure with.
        bootstrap: of the intervals.
        real: folder of the pictures that FID compares with; None: the set's references.
        update: told about progress.

    Raises:
        DataError: the folder holds none of the set's pictures.
        PhotoError: a file is not a readable picture.
    """
    cells = {} if pictures is None else _pictures_of(evalset, pictures)
    others = [] if real is None or instruments.inception is None else _pictures_in(real)
    n_photos = sum(1 + len(person.references) for person in evalset.people)
    measure = _Counted(instruments, n_photos + sum(map(bool, cells.values())) + len(others), update)
    photos = {
        person.identity_id: MeasuredPhotos(
            measure(evalset.folder / person.target),
            tuple(measure(evalset.folder / reference) for reference in person.references),
        )
        for person in evalset.people
    }
    made: dict[str, list[MeasuredImage]] = {person.identity_id: [] for person in evalset.people}
    for cell, path in cells.items():
        if path is not None:
            made[cell.person.identity_id].append(measure(path))
    features = [measure(path).inception for path in others]
    against = [found for found in features if found is not None] or None
    rows = Rows(photos, instruments, bootstrap or Bootstrap(), against)
    generated = [] if pictures is None else [rows.row(GENERATED, made, len(cells))]
    sanity, columns = rows.sanity(), columns_of(instruments)
    notes = [*_notes_on_pictures(generated, pictures), *_notes_on_set(photos, instruments, real)]
    return Report(
        evalset.digest,
        len(evalset.people),
        (*generated, *sanity),
        columns,
        instruments.missing,
        tuple(sanity_checks({row.name: row.values for row in sanity}, list(columns))),
        tuple(notes),
    )


def _pictures_of(evalset: EvalSet, pictures: Path) -> dict[Cell, Path | None]:
    cells = {cell: cell.find(pictures) for cell in evalset.cells()}
    if not any(cells.values()):
        raise DataError(
            f"{pictures}: none of the set's {len(cells)} pictures is there; expected <identity>/p00_s0.png and so on, as "
            "`python -m hifimodel.evaluate run` writes them"
        )
    return cells


class _Counted:
    """Reads and measures files, and says how far it has come."""

    def __init__(self, instruments: Instruments, total: int, update: Update | None) -> None:
        self._instruments, self._total, self._update, self._done = instruments, total, update, 0

    def __call__(self, path: Path) -> MeasuredImage:
        measured = self._instruments.measure(read_photo(path))
        self._done += 1
        if self._update:
            self._update(self._done, self._total)
        return measured


def _notes_on_pictures(generated: list[Row], pictures: Path | None) -> Iterator[str]:
    for row in generated:
        lost, blind = row.n_expected - row.n_pictures, row.n_pictures - row.n_faces
        if lost and pictures:
            n_failed = sum(1 for _ in pictures.rglob(FAILED))
            yield f"{row.name}: {lost} of {row.n_expected} pictures are not there, {n_failed} of them failed"
        if blind:
            yield f"{row.name}: no usable face in {blind} of {row.n_pictures} pictures; they count in FID alone"


def _notes_on_set(photos: Mapping[str, MeasuredPhotos], instruments: Instruments, real: Path | None) -> Iterator[str]:
    everything = [photo for person in photos.values() for photo in (person.target, *person.references)]
    blind = sum(photo.face is None for photo in everything)
    if blind:
        yield f"the set: no usable face in {blind} of its {len(everything)} photos; nothing is compared with them"
    if len(photos) < 2:
        yield "one person: no interval, and no other person to compare with"
    elif len(photos) < FEW_PEOPLE:
        yield f"{len(photos)} people: intervals from so few are too narrow"
    if instruments.inception is not None:
        against = "the set's references" if real is None else "--real"
        yield f"FID against {against}; it falls with the number of pictures, so compare equal numbers only"


def _pictures_in(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if len(found) < 2:
        raise DataError(f"--real {folder}: {len(found)} pictures there, expected at least 2; name a folder of photos")
    return found
