"""The pictures of the report: which are shown, what stands beside and below them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hifidata.core.reasons import Limit, Reason
from hifidata.core.schema import Row, Status
from hifidata.report.manifests import Manifests
from hifidata.report.near_threshold import Pick, Sides, around_threshold
from hifidata.report.pairs import most_typical, nearest_copies
from hifidata.report.people import Person, people
from hifidata.report.statistics import ReasonCount
from hifidata.report.words import Vocabulary
from hifidata.stages.dedup import NEAR_DUPLICATE
from hifidata.stages.verify import OTHER_PERSON

_DETAILS = (
    "image_id", "identity_id", "identity_name", "source_uri", "original_format", "status", "reason", "score", "threshold",
    "message", "similarity", "duplicate_of", "duplicate_distance_bits", "phash", "caption", "text_found",
)  # fmt: skip


_BESIDE: dict[str, str] = {
    str(NEAR_DUPLICATE): "the better copy; of those that passed, the nearest other picture of this person",
    str(OTHER_PERSON): "this person's most typical picture",
}
"""What stands beside each picture of a reason, so that a person can judge it."""


@dataclass(frozen=True)
class GallerySize:
    """What keeps the report's size bounded, whatever the dataset's.

    Attributes:
        people: identities shown in detail.
        pictures_per_person: kept and lost pictures shown of each, counted apart.
        pictures_per_side: pictures on each side of a threshold.
    """

    people: int = 60
    pictures_per_person: int = 10
    pictures_per_side: int = 10


@dataclass(frozen=True)
class Tile:
    """One picture with what stands below it.

    Attributes:
        src: ``data:`` URI of the thumbnail, "" where there is none.
        alt: what the picture stands for, for those who cannot see it.
        lines: one or two short lines below the picture.
        hover: the file and the message.
        status: kept, dropped or failed.
        beside: ``data:`` URI of the picture to compare it with, or "".
        row: manifest columns, for the table of details.
    """

    src: str
    alt: str
    lines: tuple[str, ...]
    hover: str
    status: str
    beside: str
    row: Row


@dataclass(frozen=True)
class Sheet:
    """The contact sheet of one reason."""

    count: ReasonCount
    reason: Reason
    stages: str
    cut: float | None
    dropped: tuple[Tile, ...]
    passed: tuple[Tile, ...]
    beside: str


@dataclass(frozen=True)
class PersonView:
    """One person's row of kept and row of lost pictures."""

    row: Row
    kept: tuple[Tile, ...]
    lost: tuple[Tile, ...]


@dataclass(frozen=True)
class Gallery:
    """Chooses pictures, then fetches texts and thumbnails of all of them in one pass over the manifest."""

    manifests: Manifests
    size: GallerySize
    words: Vocabulary

    def show(
        self, images: pa.Table, reasons: Sequence[ReasonCount], recipe: Mapping[str, Any]
    ) -> tuple[tuple[Sheet, ...], tuple[PersonView, ...]]:
        """Contact sheets and people.

        Args:
            images: the summary columns with ``with_derived``.
            reasons: what occurs in them.
            recipe: resolved recipe.
        """
        per_side = self.size.pictures_per_side
        sides = {
            count.reason: around_threshold(images, self.words.reason(count.reason), recipe, per_side)
            for count in reasons
        }
        persons = people(self.manifests, self.size.people, self.size.pictures_per_person, self.words)
        picks = [pick.image_id for side in sides.values() for pick in (*side.dropped, *side.passed)]
        rows = self._rows([*picks, *(image_id for person in persons for image_id in (*person.kept, *person.lost))])
        twins = self._twins(sides, rows)
        sources = self._data_uris([*rows, *twins.values()])
        tiles = _Tiles(rows, sources, twins, self.words)
        return (
            tuple(tiles.sheet(count, sides[count.reason]) for count in reasons),
            tuple(tiles.person(person) for person in persons),
        )

    def _rows(self, image_ids: Iterable[str]) -> dict[str, Row]:
        wanted = pc.field("image_id").isin(pa.array(sorted(set(image_ids)), pa.string()))
        return {row["image_id"]: row for row in self.manifests.images(_DETAILS, wanted).to_pylist()}

    def _twins(self, sides: Mapping[str, Sides], rows: Mapping[str, Row]) -> dict[tuple[str, str], str]:
        """What to compare a picture with, by (reason, image_id): the copy, or the person's most typical picture."""
        twins: dict[tuple[str, str], str] = {}
        for reason, side in sides.items():
            shown = [rows[pick.image_id] for pick in (*side.dropped, *side.passed)]
            if reason == NEAR_DUPLICATE:
                near = nearest_copies(self.manifests, [row for row in shown if not row["duplicate_of"]])
                pairs = near | {row["image_id"]: row["duplicate_of"] for row in shown if row["duplicate_of"]}
            elif reason == OTHER_PERSON:
                typical = most_typical(self.manifests, {row["identity_id"] for row in shown})
                pairs = {row["image_id"]: typical.get(row["identity_id"], "") for row in shown}
            else:
                continue
            twins |= {(reason, mine): other for mine, other in pairs.items() if other and other != mine}
        return twins

    def _data_uris(self, image_ids: Iterable[str]) -> dict[str, str]:
        thumbnails = self.manifests.thumbnails(set(image_ids))
        return {k: f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" for k, jpeg in thumbnails.items()}


@dataclass(frozen=True)
class _Tiles:
    """Rows and thumbnails at hand, turned into what the template prints."""

    rows: Mapping[str, Row]
    sources: Mapping[str, str]
    twins: Mapping[tuple[str, str], str]
    words: Vocabulary

    def sheet(self, count: ReasonCount, side: Sides) -> Sheet:
        """The contact sheet of one reason."""
        reason = self.words.reason(count.reason)
        return Sheet(
            count=count,
            reason=reason,
            stages=", ".join(self.words.stage(stage).title for stage in count.stages),
            cut=side.cut,
            dropped=tuple(self._around(pick, reason) for pick in side.dropped),
            passed=tuple(self._around(pick, reason) for pick in side.passed),
            beside=_BESIDE.get(count.reason, ""),
        )

    def person(self, person: Person) -> PersonView:
        """One person's rows of kept and of lost pictures."""
        return PersonView(
            person.row,
            tuple(self._of_person(self.rows[image_id]) for image_id in person.kept),
            tuple(self._of_person(self.rows[image_id]) for image_id in person.lost),
        )

    def _around(self, pick: Pick, reason: Reason) -> Tile:
        row = self.rows[pick.image_id]
        value = _score(pick.value, reason.limit) or file_name(row)
        outcome = self._outcome(row)
        lines = (value,) if row["reason"] == reason else (value, outcome)
        beside = self.sources.get(self.twins.get((str(reason), pick.image_id), ""), "")
        return self._tile(row, lines, f"{row['identity_name']}: {outcome}, {value}", beside)

    def _of_person(self, row: Row) -> Tile:
        if row["status"] == Status.KEPT:
            lines: tuple[str, ...] = (_score(row["similarity"], None) or "kept",)
        else:
            limit = self.words.limit(row["reason"] or "unknown")
            lines = (self._outcome(row), _score(row["score"], limit) if limit else "")
        return self._tile(row, lines, f"{row['identity_name']}: {self._outcome(row)}", "")

    def _outcome(self, row: Row) -> str:
        return "kept" if row["status"] == Status.KEPT else self.words.reason(row["reason"] or "unknown").label

    def _tile(self, row: Row, lines: tuple[str, ...], alt: str, beside: str) -> Tile:
        hover = " · ".join(filter(None, (row["source_uri"], row["message"], row["text_found"])))
        source = self.sources.get(row["image_id"], "")
        return Tile(source, alt, tuple(filter(None, lines)), hover, row["status"], beside, row)


def file_name(row: Row) -> str:
    """Last part of where the picture came from."""
    return str(row["source_uri"] or row["image_id"]).rstrip("/").rsplit("/", 1)[-1]


def _score(value: float | None, limit: Limit | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}{limit.unit}" if limit and limit.unit else f"{value:.3f}"
