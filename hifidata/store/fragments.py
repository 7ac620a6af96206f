"""Manifest fragments, one per committed identity, and their compaction into the Parquet manifests.

A fragment is one Parquet file. It holds the identity's image rows and thumbnails; the file's metadata holds the commit
record and the seal. The fragment is the last file that a commit writes, with one rename.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hifidata.core.errors import ConservationError, DatasetError
from hifidata.core.files import atomic_file
from hifidata.core.schema import (
    IDENTITY_COLUMNS,
    THUMBNAIL_COLUMNS,
    Column,
    Row,
    Status,
    arrow_schema,
)
from hifidata.store.seal import EMPTY_SEAL, SEAL_KEY, require_seal, seal

RECORD_KEY, SEALED_RECORD_KEY = b"hifidata.record", b"hifidata.sealed_record"
"""The second key tells that the file has a seal; earlier versions wrote fragments without one."""
THUMBNAIL = "thumbnail"
MANIFESTS = ("images", "identities", "thumbnails")

IMAGES_PER_ROW_GROUP, THUMBNAILS_PER_ROW_GROUP = 16_384, 2_048
"""Minimum rows of a row group of a manifest: about 10 to 100 MB."""


@dataclass(frozen=True)
class CommitRecord:
    """Metadata of a fragment.

    Attributes:
        identity: columns of identities.parquet.
        fingerprint: fingerprint of the candidates.
        recipe_hash: hash of the recipe.
        seconds: time per stage, summed over the identity's images.
        entered: number of images that entered each stage.
        ended: number of images that were dropped or failed, by ``stage:status``.
        stand_ins: number of kept images with a substitute caption, by ``caption_problem``.
        providers: execution provider of ONNX Runtime, by stage.
        run_id: run that made the commit; "" in fragments of hifidata 0.1.0.
    """

    identity: Row
    fingerprint: str
    recipe_hash: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    entered: Mapping[str, int] = field(default_factory=dict)
    ended: Mapping[str, int] = field(default_factory=dict)
    stand_ins: Mapping[str, int] = field(default_factory=dict)
    providers: Mapping[str, str] = field(default_factory=dict)
    run_id: str = ""


def identity_row(rows: Sequence[Row], facts: Row) -> Row:
    """Build the row of identities.parquet from the image rows of one identity.

    Args:
        rows: all candidates of the identity, each with a status.
        facts: identity_id, identity_name, source, n_clusters, target_embedding and the shard columns.

    Raises:
        ConservationError: a row has no final status, so candidates != kept + dropped + failed.
    """
    counts = Counter(row.get("status") for row in rows)
    kept = [row for row in rows if row["status"] == Status.KEPT]
    n_counted = counts[Status.KEPT] + counts[Status.DROPPED] + counts[Status.FAILED]
    if n_counted != len(rows):
        raise ConservationError(
            f"identity {facts['identity_id']}: {len(rows)} candidates, but their status is {dict(counts)}; "
            "this is a bug, please report it"
        )
    reasons = Counter(row["reason"] for row in rows if row.get("reason"))
    status = Status.KEPT if kept else (Status.FAILED if counts[Status.FAILED] == len(rows) > 0 else Status.DROPPED)
    similarities = [row["similarity"] for row in kept if row.get("similarity") is not None]
    genders = {row.get("gender") for row in kept}
    return facts | {
        "n_candidates": len(rows),
        "n_kept": counts[Status.KEPT],
        "n_dropped": counts[Status.DROPPED],
        "n_failed": counts[Status.FAILED],
        "status": str(status),
        "reason": None if kept or not reasons else min(reasons, key=lambda reason: (-reasons[reason], reason)),
        "similarity_min": min(similarities, default=None),
        "similarity_mean": float(np.mean(similarities)) if similarities else None,
        "gender": genders.pop() if len(genders) == 1 else None,
    }


def write_fragment(
    path: Path,
    rows: Sequence[Row],
    thumbnails: Sequence[bytes | None],
    record: CommitRecord,
    columns: Sequence[Column],
) -> None:
    """Write the fragment of an identity atomically; ``columns`` are the columns of images.parquet."""
    schema = arrow_schema(columns).append(pa.field(THUMBNAIL, pa.binary()))
    table = pa.Table.from_pylist(
        [row | {THUMBNAIL: thumbnail} for row, thumbnail in zip(rows, thumbnails, strict=True)], schema=schema
    )
    text = json.dumps(asdict(record), ensure_ascii=False, default=_plain)
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({SEALED_RECORD_KEY: text, SEAL_KEY: EMPTY_SEAL}),
        buffer, compression="zstd", write_page_checksum=True,
    )  # fmt: skip
    with atomic_file(path, private=True) as file:
        file.write(seal(buffer.getbuffer()))


def read_record(path: Path) -> CommitRecord:
    """Read the commit record of a fragment from the file's footer. Raises DatasetError if the file is not a fragment."""
    try:
        is_sealed = require_seal(path)
        metadata = pq.read_metadata(path).metadata or {}
        return CommitRecord(**json.loads(metadata[SEALED_RECORD_KEY if is_sealed else RECORD_KEY]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: not a manifest fragment of hifidata ({error}); delete it and run again") from error


def read_record_of_run(path: Path, run_id: str) -> CommitRecord | None:
    """Return the commit record of a fragment of this run; None if there is none, or if the fragment is damaged."""
    try:
        record = read_record(path) if run_id and path.exists() else None
    except DatasetError:
        return None
    return record if record is not None and record.run_id == run_id else None


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a fragment or a manifest and verify its page checksums; for all columns of a fragment, the sha256 of the file.

    Raises:
        DatasetError: the file is damaged or lacks a column.
        FileNotFoundError: the file does not exist.
    """
    with parquet_errors(path):
        require_seal(path, whole=columns is None)
        return pq.read_table(path, columns=columns and list(columns), page_checksum_verification=True)


@contextmanager
def parquet_errors(path: Path) -> Iterator[None]:
    """Turn Arrow's read errors of ``path`` into a DatasetError that names the remedy. FileNotFoundError passes."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(
            f"{path}: damaged ({reason}); copy it again, or delete it and run the recipe again"
        ) from error


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[Row]:
    """Read image rows of a fragment or of images.parquet; all columns except thumbnails by default.

    Raises:
        DatasetError, FileNotFoundError: as in ``read_table``.
    """
    table = read_table(path, columns)
    rows: list[Row] = table.drop_columns([THUMBNAIL] if THUMBNAIL in table.column_names else []).to_pylist()
    return rows


def rows_of_recipe(fragment: Path, recipe_hashes: Container[str], columns: Sequence[str]) -> list[Row]:
    """Read image rows of a fragment; empty if it is missing, damaged or made by a recipe that is not listed."""
    try:
        return read_rows(fragment, columns) if read_record(fragment).recipe_hash in recipe_hashes else []
    except (DatasetError, FileNotFoundError):
        return []


def compact(
    fragments: Iterable[Path], folder: Path, moved: Mapping[str, Mapping[str, Any]], columns: Sequence[Column]
) -> None:
    """Write images.parquet, identities.parquet and thumbnails.parquet from fragments, each file atomically.

    Args:
        fragments: fragments in the order of the manifests' rows. Memory holds the rows of one row group.
        folder: ``OUT/manifests``.
        moved: by identity id, the new columns shard, shard_sha256 and shard_bytes of packed identities.
        columns: columns of images.parquet. A column that an older fragment lacks becomes null.
    """
    image_schema, identity_schema = arrow_schema(columns), arrow_schema(IDENTITY_COLUMNS)
    thumbnail_schema = arrow_schema(THUMBNAIL_COLUMNS)
    identities: list[Row] = []
    with (
        atomic_file(folder / "images.parquet", private=True) as images_file,
        atomic_file(folder / "thumbnails.parquet", private=True) as thumbnails_file,
        _row_groups(images_file, image_schema, "zstd", IMAGES_PER_ROW_GROUP) as images,
        _row_groups(thumbnails_file, thumbnail_schema, "none", THUMBNAILS_PER_ROW_GROUP) as thumbnails,
    ):
        for fragment in fragments:
            table = read_table(fragment)
            identity = read_record(fragment).identity
            placed = moved.get(identity["identity_id"], {})
            identities.append({**identity, **placed})
            rows = _conformed(table, image_schema)
            if placed and rows.num_rows:
                shard = [None if key is None else placed["shard"] for key in rows["key"].to_pylist()]
                rows = rows.set_column(rows.schema.get_field_index("shard"), image_schema.field("shard"), [shard])
            images.add(rows)
            shown = table.filter(table[THUMBNAIL].is_valid()).select(["image_id", THUMBNAIL])
            thumbnails.add(shown.rename_columns(["image_id", "jpeg"]).cast(thumbnail_schema))
    with atomic_file(folder / "identities.parquet", private=True) as file:
        pq.write_table(pa.Table.from_pylist(identities, schema=identity_schema), file, compression="zstd")


def schema_with(files: Sequence[str | Path], known: Sequence[Column], wanted: Sequence[str] = ()) -> pa.Schema:
    """Return the schema of the first file, extended by the known and wanted columns that it lacks (read as null)."""
    schema = pq.read_schema(files[0]) if files else arrow_schema(())
    schema = pa.schema([*schema, *(field for field in arrow_schema(known) if field.name not in schema.names)])
    return pa.schema([*schema, *(pa.field(name, pa.null()) for name in wanted if name not in schema.names)])


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


class _RowGroups:
    """Collects small tables into large row groups, because each row group costs kilobytes of footer."""

    def __init__(self, writer: pq.ParquetWriter, n_rows: int) -> None:
        self._writer, self._n_rows = writer, n_rows
        self._buffer: list[pa.Table] = []
        self._n_buffered = 0

    def add(self, table: pa.Table) -> None:
        self._buffer.append(table)
        self._n_buffered += table.num_rows
        if self._n_buffered >= self._n_rows:
            self.flush()

    def flush(self) -> None:
        if self._n_buffered:
            self._writer.write_table(pa.concat_tables(self._buffer))
        self._buffer, self._n_buffered = [], 0


@contextmanager
def _row_groups(file: BinaryIO, schema: pa.Schema, compression: str, n_rows: int) -> Iterator[_RowGroups]:
    with pq.ParquetWriter(file, schema, compression=compression) as writer:
        groups = _RowGroups(writer, n_rows)
        yield groups
        groups.flush()


def _plain(value: Any) -> Any:
    return value.tolist()
