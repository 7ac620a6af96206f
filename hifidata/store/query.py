"""Looks into a dataset folder, finished or not: what `status`, `inspect` and `failures` show."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from hifidata.core.errors import DatasetError
from hifidata.core.schema import Row, Status
from hifidata.store.fragments import read_record, read_rows, read_table
from hifidata.store.layout import DatasetFolder
from hifidata.store.rows import has_records, manifest_rows, people

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
    """Whether the dataset is finished, and its counts so far. Raises DatasetError where no run ever started."""
    folder = DatasetFolder(out)
    run = folder.read_run()
    counts = _counts(folder) if has_records(folder) else folder.read_dataset()["counts"]
    return {
        "finished": folder.dataset_json.exists(),
        "recipe": run["recipe"]["name"],
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


def find(out: Path, what: str) -> tuple[Row | None, list[Row]]:
    """An identity with its images, or one image.

    Args:
        out: dataset folder.
        what: identity id or name, image id, sample key, or the end of a source URI.

    Returns:
        (identity row, its image rows) for a person, (None, image rows) for pictures.

    Raises:
        DatasetError: nothing matches, or ``out`` is not a dataset folder.
    """
    folder = DatasetFolder(out)
    folder.read_run()
    if not what:
        raise DatasetError("inspect: name an identity or an image")
    identity, rows = (_in_records if has_records(folder) else _in_manifests)(folder, what)
    if not identity and not rows:
        raise DatasetError(
            f"{folder.root}: no identity and no image is called {what!r}; give an identity id or name, an image id, "
            "a sample key, or the end of a file name"
        )
    return identity, rows


def _in_records(folder: DatasetFolder, what: str) -> tuple[Row | None, list[Row]]:
    pictures: list[Row] = []
    for fragment in folder.committed():
        identity = read_record(fragment).identity
        if what in (identity["identity_id"], identity["identity_name"]):
            place = _where_packed(folder, identity["identity_id"])
            return identity | place, _placed(read_rows(fragment), place)
        ids = read_table(fragment, ["image_id", "key", "source_uri"])
        if any(pc.any(test).as_py() for test in _matches(ids, what)):
            found = [row for row in read_rows(fragment) if _is(row, what)]
            pictures += _placed(found, _where_packed(folder, identity["identity_id"]))
    return None, pictures


def _in_manifests(folder: DatasetFolder, what: str) -> tuple[Row | None, list[Row]]:
    called = (pc.field("identity_id") == what) | (pc.field("identity_name") == what)
    for identity in manifest_rows(folder, "identities", where=called):
        its_rows = pc.field("identity_id") == identity["identity_id"]
        return identity, list(manifest_rows(folder, "images", where=its_rows))
    columns = {name: pc.field(name) for name in ("image_id", "key", "source_uri")}
    return None, list(manifest_rows(folder, "images", where=functools.reduce(operator.or_, _matches(columns, what))))


def lacking_captions(out: Path) -> Iterator[Row]:
    """Kept pictures that lack their caption, or have a part of it. Raises DatasetError where ``out`` is no dataset folder."""
    folder = DatasetFolder(out)
    folder.read_run()
    for rows in people(folder, CAPTION_COLUMNS):
        for row in rows:
            if row["status"] == Status.KEPT and row["caption_problem"] is not None:
                yield row


def failures(out: Path, include_dropped: bool, reason: str | None) -> Iterator[Row]:
    """Rows that failed, or every row that was not kept; optionally of one reason.

    Raises:
        DatasetError: ``out`` is not a dataset folder.
    """
    folder = DatasetFolder(out)
    folder.read_run()
    wanted = {str(Status.FAILED)} | ({str(Status.DROPPED)} if include_dropped or reason else set())
    for rows in people(folder, FAILURE_COLUMNS):
        for row in rows:
            if row["status"] in wanted and reason in (None, row["reason"]):
                yield row


def _where_packed(folder: DatasetFolder, identity_id: str) -> Row:
    """The shard columns of a finished dataset: packing moves what the fragment recorded."""
    table = folder.manifests / "identities.parquet"
    if not folder.dataset_json.exists() or not table.exists():
        return {}
    columns = ["shard", "shard_sha256", "shard_bytes"]
    places = read_table(table, ["identity_id", *columns])
    rows: list[Row] = places.filter(pc.equal(places["identity_id"], identity_id)).select(columns).to_pylist()
    return rows[0] if rows else {}


def _placed(rows: list[Row], place: Row) -> list[Row]:
    return [row | {"shard": place["shard"]} if place and row["key"] else row for row in rows]


def _matches(table: Any, what: str) -> Iterator[Any]:
    yield pc.equal(table["image_id"], what)
    yield pc.equal(table["key"], what)
    yield pc.ends_with(table["source_uri"], what)


def _is(row: Row, what: str) -> bool:
    return what in (row["image_id"], row["key"]) or str(row["source_uri"]).endswith(what)
