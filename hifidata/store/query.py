"""Queries on a dataset folder, finished or not: the data of `status`, `inspect` and `failures`."""

from __future__ import annotations

import functools
import operator
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from hifidata.core.errors import DatasetError
from hifidata.core.filenames import MARK, escaped, printable_name, without_mark
from hifidata.core.schema import Row, Status
from hifidata.store.fragments import read_record, read_rows, read_table
from hifidata.store.layout import DatasetFolder
from hifidata.store.rows import has_fragments, identity_groups, manifest_rows

FAILURE_COLUMNS = [
    "image_id",
    "identity_id",
    "identity_name",
    "source_uri",
    "status",
    "stage",
    "reason",
    "score",
    "threshold",
    "message",
]
CAPTION_COLUMNS = [
    "image_id",
    "identity_id",
    "identity_name",
    "source_uri",
    "status",
    "caption_model",
    "caption_problem",
]


def status(out: Path) -> dict[str, Any]:
    """Return whether the dataset is finished, and its current counts. Raises DatasetError if no run was started."""
    folder = DatasetFolder(out)
    run = folder.read_run()
    counts = _counts(folder) if has_fragments(folder) else folder.read_dataset("counts")["counts"]
    return {
        "finished": folder.dataset_json.exists(),
        "recipe": run["recipe"].get("name"),
        "recipe_hash": run["recipe_hash"],
        "started_at": run["started_at"],
        "identities_committed": counts["identities"],
        **{name: counts[name] for name in ("identities_kept", "candidates", "kept", "dropped", "failed")},
        "report": str(folder.root / "report" / "index.html") if folder.dataset_json.exists() else None,
    }


def _counts(folder: DatasetFolder) -> Mapping[str, int]:
    counts = Counter[str]()
    for fragment in folder.committed():
        row = read_record(fragment).identity
        counts.update({"identities": 1, "identities_kept": row["n_kept"] > 0})
        counts.update({name: row[f"n_{name}"] for name in ("candidates", "kept", "dropped", "failed")})
    return counts


def find(out: Path, query: str) -> tuple[Row | None, list[Row]]:
    """Find an identity with all its images, or images.

    Args:
        out: dataset folder.
        query: identity id or name, image id, sample key, or the end of a source URI. Bytes of a file name that are not UTF-8
            are given as surrogates, or escaped as the manifest shows them.

    Returns:
        (identity row, its image rows) if an identity matches, otherwise (None, matching image rows).

    Raises:
        DatasetError: nothing matches, or ``out`` is not a dataset folder.
    """
    folder = DatasetFolder(out)
    folder.read_run()
    if not query:
        raise DatasetError("inspect: the name is empty; name an identity or an image")
    name, query = printable_name(query), escaped(query)
    identity, rows = (_in_fragments if has_fragments(folder) else _in_manifests)(folder, name, query)
    if not identity and not rows:
        raise DatasetError(
            f"{folder.root}: no identity or image matches {query!r}; give an identity id or name, an image id, "
            "a sample key, or the end of a file name"
        )
    return identity, rows


def _in_fragments(folder: DatasetFolder, name: str, query: str) -> tuple[Row | None, list[Row]]:
    images: list[Row] = []
    for fragment in folder.committed():
        identity = read_record(fragment).identity
        if query == identity["identity_id"] or name == identity["identity_name"]:
            packed = _packed_shard(folder, identity["identity_id"])
            return identity | packed, _with_shard(read_rows(fragment), packed)
        ids = read_table(fragment, ["image_id", "key", "source_uri"])
        if any(pc.any(mask).as_py() for mask in _matches(ids, query)):
            found = [row for row in read_rows(fragment) if _is_match(row, query)]
            images += _with_shard(found, _packed_shard(folder, identity["identity_id"]))
    return None, images


def _in_manifests(folder: DatasetFolder, name: str, query: str) -> tuple[Row | None, list[Row]]:
    named = (pc.field("identity_id") == query) | (pc.field("identity_name") == name)
    for identity in manifest_rows(folder, "identities", where=named):
        of_identity = pc.field("identity_id") == identity["identity_id"]
        return identity, list(manifest_rows(folder, "images", where=of_identity))
    columns = {name: pc.field(name) for name in ("image_id", "key", "source_uri")}
    return None, list(manifest_rows(folder, "images", where=functools.reduce(operator.or_, _matches(columns, query))))


def missing_captions(out: Path) -> Iterator[Row]:
    """Yield kept images whose caption is missing or incomplete. Raises DatasetError if ``out`` is not a dataset folder."""
    folder = DatasetFolder(out)
    folder.read_run()
    for rows in identity_groups(folder, CAPTION_COLUMNS):
        for row in rows:
            if row["status"] == Status.KEPT and row["caption_problem"] is not None:
                yield row


def failures(out: Path, include_dropped: bool, reason: str | None) -> Iterator[Row]:
    """Yield rows that failed, or all rows that were not kept; optionally of one reason.

    Raises:
        DatasetError: ``out`` is not a dataset folder.
    """
    folder = DatasetFolder(out)
    folder.read_run()
    wanted = {str(Status.FAILED)} | ({str(Status.DROPPED)} if include_dropped or reason else set())
    for rows in identity_groups(folder, FAILURE_COLUMNS):
        for row in rows:
            if row["status"] in wanted and reason in (None, row["reason"]):
                yield row


def _packed_shard(folder: DatasetFolder, identity_id: str) -> Row:
    """Return the shard columns of a finished dataset: packing changes the shard that the fragment records."""
    table = folder.manifests / "identities.parquet"
    if not folder.dataset_json.exists() or not table.exists():
        return {}
    columns = ["shard", "shard_sha256", "shard_bytes"]
    identities = read_table(table, ["identity_id", *columns])
    rows: list[Row] = identities.filter(pc.equal(identities["identity_id"], identity_id)).select(columns).to_pylist()
    return rows[0] if rows else {}


def _with_shard(rows: list[Row], packed: Row) -> list[Row]:
    return [row | {"shard": packed["shard"]} if packed and row["key"] else row for row in rows]


def _matches(table: Any, query: str) -> Iterator[Any]:
    yield pc.equal(table["image_id"], query)
    yield pc.equal(table["key"], query)
    yield pc.ends_with(table["source_uri"], query)
    yield pc.match_substring_regex(table["source_uri"], f"{re.escape(query)}{MARK}$")


def _is_match(row: Row, query: str) -> bool:
    uri = str(row["source_uri"])
    return query in (row["image_id"], row["key"]) or uri.endswith(query) or without_mark(uri).endswith(query)
