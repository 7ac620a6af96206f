"""Which people a report shows, and which of their pictures: a bounded number, chosen to be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from hifidata.core.schema import Row, Status
from hifidata.report.manifests import Manifests
from hifidata.report.words import Vocabulary

_IDENTITY_COLUMNS = (
    "identity_id",
    "identity_name",
    "n_candidates",
    "n_kept",
    "n_dropped",
    "n_failed",
    "reason",
    "gender",
)
_IMAGE_COLUMNS = ("image_id", "identity_id", "status", "reason", "similarity", "source_uri")


@dataclass(frozen=True)
class Person:
    """One identity and the pictures of it that are shown.

    Attributes:
        row: columns of identities.parquet.
        kept: image ids, least similar to the person's centre first, since a wrong person would be there.
        lost: image ids of dropped and failed pictures, in the order of the stages; every reason is represented
            before any gets a second picture.
    """

    row: Row
    kept: tuple[str, ...]
    lost: tuple[str, ...]


def people(manifests: Manifests, max_people: int, max_pictures: int, words: Vocabulary) -> tuple[Person, ...]:
    """At most ``max_people`` people by name, each with at most ``max_pictures`` kept and as many lost pictures.

    Identity ids are hashes, so the first of them in order are an even draw and the same one every time.
    """
    ids = manifests.identities(["identity_id"])["identity_id"].sort().slice(0, max_people)
    is_shown = pc.field("identity_id").isin(pa.array(ids.to_pylist(), pa.string()))
    rows = manifests.identities(_IDENTITY_COLUMNS, is_shown).sort_by("identity_id").to_pylist()
    images = manifests.images(_IMAGE_COLUMNS, is_shown)
    shown = []
    for row in rows:
        mine = images.filter(pc.equal(images["identity_id"], row["identity_id"]))
        shown.append(Person(row, _kept(mine, max_pictures), _lost(mine, max_pictures, words)))
    return tuple(
        sorted(shown, key=lambda person: (str(person.row["identity_name"]).casefold(), person.row["identity_id"]))
    )


def share_out(wanted: Mapping[str, int], places: int) -> dict[str, int]:
    """Divides places as evenly as the wishes allow: ``{"a": 9, "b": 1}`` and 4 places give 3 and 1."""
    given = dict.fromkeys(wanted, 0)
    while places > 0 and (open_wishes := [key for key in wanted if given[key] < wanted[key]]):
        for key in open_wishes[:places]:
            given[key] += 1
        places -= len(open_wishes)
    return given


def _kept(images: pa.Table, limit: int) -> tuple[str, ...]:
    kept = images.filter(pc.equal(images["status"], Status.KEPT))
    ranked = kept.sort_by([("similarity", "ascending"), ("image_id", "ascending")])
    return tuple(ranked["image_id"][:limit].to_pylist())


def _lost(images: pa.Table, limit: int, words: Vocabulary) -> tuple[str, ...]:
    lost = images.filter(pc.not_equal(images["status"], Status.KEPT)).sort_by("source_uri")
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(lost["reason"]).to_pylist()}
    places = share_out({reason: counts[reason] for reason in words.in_order(counts)}, limit)
    chosen: list[str] = []
    for reason, n in places.items():
        chosen += lost.filter(pc.equal(lost["reason"], reason))["image_id"][:n].to_pylist()
    return tuple(chosen)
