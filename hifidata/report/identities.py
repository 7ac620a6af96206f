"""Selection of the identities and images that the report shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from hifidata.core.schema import Row, Status
from hifidata.report.manifests import Manifests
from hifidata.report.words import Vocabulary
from hifidata.stages.verify import SEVERAL_PEOPLE

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
class ShownIdentity:
    """An identity and its images in the report.

    Attributes:
        row: columns of identities.parquet.
        kept: ids of kept images, sorted by similarity to the identity's centre, lowest first: a wrong person comes first.
        not_kept: ids of dropped and failed images in the order of the stages. Each reason gets one image before any
            reason gets a second image.
    """

    row: Row
    kept: tuple[str, ...]
    not_kept: tuple[str, ...]


@dataclass(frozen=True)
class RefusedIdentity:
    """An identity with two groups of similar size, of which none was kept.

    Attributes:
        row: columns of identities.parquet.
        groups: image ids of the first and of the second group, sorted by id.
    """

    row: Row
    groups: tuple[tuple[str, ...], tuple[str, ...]]


def refused_identities(manifests: Manifests, max_identities: int, max_images: int) -> tuple[RefusedIdentity, ...]:
    """Select at most ``max_identities`` identities with the reason several_people, by id, and ``max_images`` of each group."""
    images = manifests.images(
        ["image_id", "identity_id", "cluster"], pc.field("reason") == str(SEVERAL_PEOPLE)
    ).sort_by("image_id")
    ids = pc.unique(images["identity_id"]).sort().slice(0, max_identities)
    rows = manifests.identities(_IDENTITY_COLUMNS, pc.field("identity_id").isin(ids)).sort_by("identity_id").to_pylist()
    refused = []
    for row in rows:
        own = images.filter(pc.equal(images["identity_id"], row["identity_id"]))
        first, second = (own.filter(pc.equal(own["cluster"], group))["image_id"] for group in (0, 1))
        refused.append(
            RefusedIdentity(row, (tuple(first[:max_images].to_pylist()), tuple(second[:max_images].to_pylist())))
        )
    return tuple(refused)


def shown_identities(
    manifests: Manifests, max_identities: int, max_images: int, words: Vocabulary
) -> tuple[ShownIdentity, ...]:
    """Select at most ``max_identities`` identities, sorted by name.

    Identity ids are hashes, so the first ids in sorted order are a uniform and repeatable sample.

    Args:
        manifests: manifests of the dataset.
        max_identities: maximum number of identities.
        max_images: maximum number of kept images of an identity, and of images that were not kept.
        words: vocabulary of the dataset.
    """
    ids = manifests.identities(["identity_id"])["identity_id"].sort().slice(0, max_identities)
    is_shown = pc.field("identity_id").isin(pa.array(ids.to_pylist(), pa.string()))
    rows = manifests.identities(_IDENTITY_COLUMNS, is_shown).sort_by("identity_id").to_pylist()
    images = manifests.images(_IMAGE_COLUMNS, is_shown)
    shown = []
    for row in rows:
        own = images.filter(pc.equal(images["identity_id"], row["identity_id"]))
        shown.append(ShownIdentity(row, _kept(own, max_images), _not_kept(own, max_images, words)))
    return tuple(sorted(shown, key=lambda each: (str(each.row["identity_name"]).casefold(), each.row["identity_id"])))


def divide_evenly(available: Mapping[str, int], n: int) -> dict[str, int]:
    """Divide ``n`` places evenly between keys, up to each available number: ``{"a": 9, "b": 1}`` and 4 give 3 and 1."""
    given = dict.fromkeys(available, 0)
    while n > 0 and (open_keys := [key for key in available if given[key] < available[key]]):
        for key in open_keys[:n]:
            given[key] += 1
        n -= len(open_keys)
    return given


def _kept(images: pa.Table, max_images: int) -> tuple[str, ...]:
    kept = images.filter(pc.equal(images["status"], Status.KEPT))
    ranked = kept.sort_by([("similarity", "ascending"), ("image_id", "ascending")])
    return tuple(ranked["image_id"][:max_images].to_pylist())


def _not_kept(images: pa.Table, max_images: int, words: Vocabulary) -> tuple[str, ...]:
    rows = images.filter(pc.not_equal(images["status"], Status.KEPT)).sort_by("source_uri")
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(rows["reason"]).to_pylist()}
    numbers = divide_evenly({reason: counts[reason] for reason in words.in_order(counts)}, max_images)
    selected: list[str] = []
    for reason, n in numbers.items():
        selected += rows.filter(pc.equal(rows["reason"], reason))["image_id"][:n].to_pylist()
    return tuple(selected)
