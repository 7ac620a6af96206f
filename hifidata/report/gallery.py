"""The images of the report, with their captions and comparison images."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hifidata.core.reasons import Limit, Reason
from hifidata.core.schema import Row, Status
from hifidata.report.comparisons import most_typical, nearest_copies
from hifidata.report.identities import RefusedIdentity, ShownIdentity, refused_identities, shown_identities
from hifidata.report.manifests import Manifests
from hifidata.report.near_threshold import NearThreshold, ScoredImage, around_threshold
from hifidata.report.statistics import ReasonCount
from hifidata.report.words import Vocabulary
from hifidata.stages.dedup import NEAR_DUPLICATE
from hifidata.stages.verify import OTHER_PERSON

_DETAILS = (
    "image_id", "identity_id", "identity_name", "source_uri", "original_format", "status", "reason", "score", "threshold",
    "message", "similarity", "duplicate_of", "duplicate_distance_bits", "phash", "caption", "text_found",
)  # fmt: skip

_COMPARISONS: dict[str, str] = {
    str(NEAR_DUPLICATE): "the better copy of a dropped image, or the nearest other image of a passed image",
    str(OTHER_PERSON): "the image nearest to the centre of the identity",
}
"""Description of the comparison image, by reason."""


@dataclass(frozen=True)
class GallerySize:
    """Limits that bound the size of the report.

    Attributes:
        identities: number of identities shown in detail.
        images_per_identity: maximum number of kept images of an identity, and of images that were not kept.
        images_per_side: maximum number of images on each side of a threshold.
        refused_identities: number of identities with several people.
        images_per_group: maximum number of images of each of their two groups.
    """

    identities: int = 60
    images_per_identity: int = 10
    images_per_side: int = 10
    refused_identities: int = 20
    images_per_group: int = 5


@dataclass(frozen=True)
class Tile:
    """An image with its caption.

    Attributes:
        src: ``data:`` URI of the thumbnail, or "" without a thumbnail.
        alt: alternative text of the image.
        lines: one or two short lines below the image.
        hover: file, message and text found in the image.
        comparison_src: ``data:`` URI of the comparison image, or "".
        row: manifest columns for the table of details.
    """

    src: str
    alt: str
    lines: tuple[str, ...]
    hover: str
    comparison_src: str
    row: Row


@dataclass(frozen=True)
class ContactSheet:
    """The images around the threshold of one reason."""

    count: ReasonCount
    reason: Reason
    threshold: float | None
    dropped: tuple[Tile, ...]
    passed: tuple[Tile, ...]
    comparison: str


@dataclass(frozen=True)
class IdentityView:
    """The images of an identity that were kept, and those that were not kept."""

    row: Row
    kept: tuple[Tile, ...]
    not_kept: tuple[Tile, ...]


@dataclass(frozen=True)
class RefusedView:
    """The images of the two groups of an identity with several people."""

    row: Row
    groups: tuple[tuple[Tile, ...], ...]


@dataclass(frozen=True)
class Gallery:
    """Selects images, then reads their rows and thumbnails in one pass over the manifests."""

    manifests: Manifests
    size: GallerySize
    words: Vocabulary

    def show(
        self, images: pa.Table, reasons: Sequence[ReasonCount], recipe: Mapping[str, Any]
    ) -> tuple[tuple[ContactSheet, ...], tuple[IdentityView, ...], tuple[RefusedView, ...]]:
        """Build the contact sheets of all reasons, the views of the shown identities, and of those with several people.

        Args:
            images: the summary columns with ``with_derived``.
            reasons: reasons that occur in ``images``.
            recipe: resolved recipe.
        """
        per_side = self.size.images_per_side
        nearest = {
            count.reason: around_threshold(images, self.words.reason(count.reason), recipe, per_side)
            for count in reasons
        }
        shown = shown_identities(self.manifests, self.size.identities, self.size.images_per_identity, self.words)
        image_ids = [image.image_id for near in nearest.values() for image in (*near.dropped, *near.passed)]
        refused = refused_identities(self.manifests, self.size.refused_identities, self.size.images_per_group)
        image_ids += [image_id for each in shown for image_id in (*each.kept, *each.not_kept)]
        rows = self._rows([*image_ids, *(image_id for each in refused for group in each.groups for image_id in group)])
        comparisons = self._comparisons(nearest, rows)
        sources = self._data_uris([*rows, *comparisons.values()])
        tiles = _Tiles(rows, sources, comparisons, self.words)
        return (
            tuple(tiles.sheet(count, nearest[count.reason]) for count in reasons),
            tuple(tiles.identity(identity) for identity in shown),
            tuple(tiles.refused(identity) for identity in refused),
        )

    def _rows(self, image_ids: Iterable[str]) -> dict[str, Row]:
        wanted = pc.field("image_id").isin(pa.array(sorted(set(image_ids)), pa.string()))
        return {row["image_id"]: row for row in self.manifests.images(_DETAILS, wanted).to_pylist()}

    def _comparisons(self, nearest: Mapping[str, NearThreshold], rows: Mapping[str, Row]) -> dict[tuple[str, str], str]:
        """Find the comparison images; returns image_id by (reason, image_id)."""
        found: dict[tuple[str, str], str] = {}
        for reason, near in nearest.items():
            shown = [rows[image.image_id] for image in (*near.dropped, *near.passed)]
            if reason == NEAR_DUPLICATE:
                copies = nearest_copies(self.manifests, [row for row in shown if not row["duplicate_of"]])
                others = copies | {row["image_id"]: row["duplicate_of"] for row in shown if row["duplicate_of"]}
            elif reason == OTHER_PERSON:
                typical = most_typical(self.manifests, {row["identity_id"] for row in shown})
                others = {row["image_id"]: typical.get(row["identity_id"], "") for row in shown}
            else:
                continue
            found |= {(reason, image_id): other for image_id, other in others.items() if other and other != image_id}
        return found

    def _data_uris(self, image_ids: Iterable[str]) -> dict[str, str]:
        thumbnails = self.manifests.thumbnails(set(image_ids))
        return {k: f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" for k, jpeg in thumbnails.items()}


@dataclass(frozen=True)
class _Tiles:
    """Builds tiles from rows and thumbnails."""

    rows: Mapping[str, Row]
    sources: Mapping[str, str]
    comparisons: Mapping[tuple[str, str], str]
    words: Vocabulary

    def sheet(self, count: ReasonCount, near: NearThreshold) -> ContactSheet:
        """Build the contact sheet of one reason."""
        reason = self.words.reason(count.reason)
        return ContactSheet(
            count=count,
            reason=reason,
            threshold=near.threshold,
            dropped=tuple(self._near_threshold(image, reason) for image in near.dropped),
            passed=tuple(self._near_threshold(image, reason) for image in near.passed),
            comparison=_COMPARISONS.get(count.reason, ""),
        )

    def identity(self, identity: ShownIdentity) -> IdentityView:
        """Build the view of one identity."""
        return IdentityView(
            identity.row,
            tuple(self._of_identity(self.rows[image_id]) for image_id in identity.kept),
            tuple(self._of_identity(self.rows[image_id]) for image_id in identity.not_kept),
        )

    def refused(self, identity: RefusedIdentity) -> RefusedView:
        """Build the view of an identity with several people; the captions are file names."""
        rows = ([self.rows[image_id] for image_id in group] for group in identity.groups)
        return RefusedView(
            identity.row,
            tuple(tuple(self._tile(row, (file_name(row),), str(row["identity_name"]), "") for row in g) for g in rows),
        )

    def _near_threshold(self, image: ScoredImage, reason: Reason) -> Tile:
        row = self.rows[image.image_id]
        value = _score(image.score, reason.limit) or file_name(row)
        outcome = self._outcome(row)
        lines = (value,) if row["reason"] == reason else (value, outcome)
        comparison_src = self.sources.get(self.comparisons.get((str(reason), image.image_id), ""), "")
        return self._tile(row, lines, f"{row['identity_name']}: {outcome}, {value}", comparison_src)

    def _of_identity(self, row: Row) -> Tile:
        if row["status"] == Status.KEPT:
            lines: tuple[str, ...] = (_score(row["similarity"], None) or "kept",)
        else:
            limit = self.words.reason(row["reason"] or "unknown").limit
            lines = (self._outcome(row), _score(row["score"], limit) if limit else "")
        return self._tile(row, lines, f"{row['identity_name']}: {self._outcome(row)}", "")

    def _outcome(self, row: Row) -> str:
        return "kept" if row["status"] == Status.KEPT else self.words.reason(row["reason"] or "unknown").label

    def _tile(self, row: Row, lines: tuple[str, ...], alt: str, comparison_src: str) -> Tile:
        hover = " · ".join(filter(None, (row["source_uri"], row["message"], row["text_found"])))
        source = self.sources.get(row["image_id"], "")
        return Tile(source, alt, tuple(filter(None, lines)), hover, comparison_src, row)


def file_name(row: Row) -> str:
    """Return the last part of the source URI, or the image id without a URI."""
    return str(row["source_uri"] or row["image_id"]).rstrip("/").rsplit("/", 1)[-1]


def _score(value: float | None, limit: Limit | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}{limit.unit}" if limit and limit.unit else f"{value:.3f}"
