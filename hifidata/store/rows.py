"""Committed people's rows: from their commit records or, where ``state/`` was deleted, from the manifests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import pyarrow.compute as pc
import pyarrow.dataset as ds

from hifidata.core.errors import DatasetError
from hifidata.core.schema import IDENTITY_COLUMNS, SOURCE_COLUMNS, VERDICT_COLUMNS, Row
from hifidata.store.fragments import damage_named, read_rows, schema_with
from hifidata.store.layout import DatasetFolder
from hifidata.store.verify import require_manifests

ROWS_A_BATCH = 1024
"""Rows of a manifest held at a time; each has an embedding of hundreds of numbers."""
_KNOWN = {"images": (*SOURCE_COLUMNS, *VERDICT_COLUMNS), "identities": IDENTITY_COLUMNS}


def has_records(folder: DatasetFolder) -> bool:
    """Whether commit records are what there is to read; False for a finished dataset without ``state/``."""
    return not folder.dataset_json.exists() or any(folder.fragments.glob("??/*.parquet"))


def people(folder: DatasetFolder, columns: Sequence[str] | None = None) -> Iterator[list[Row]]:
    """Image rows, one committed person at a time.

    Args:
        folder: a dataset folder.
        columns: of images.parquet, ``identity_id`` among them; all of them by default.

    Raises:
        DatasetError: a record or manifest is damaged, or gone, or not the one that was written.
    """
    if has_records(folder):
        for fragment in folder.committed():
            yield read_rows(fragment, columns)
        return
    for _, rows in groupby(manifest_rows(folder, "images", columns), key=lambda row: row["identity_id"]):
        yield list(rows)


def manifest_rows(
    folder: DatasetFolder, name: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None
) -> Iterator[Row]:
    """Rows of images.parquet or identities.parquet in their order; a column that the file lacks is null.

    Raises:
        DatasetError: the manifest is gone, damaged or not the one that was written.
    """
    path = folder.manifests / f"{name}.parquet"
    require_manifests(folder, name)
    if not path.exists():
        raise DatasetError(
            f"{folder.root}: manifests/{name}.parquet is gone, and state/, which it was made from; copy it again"
        )
    parts = [str(part) for part in sorted(path.glob("*.parquet"))] if path.is_dir() else [str(path)]
    with damage_named(path):
        schema = schema_with(parts, _KNOWN[name], columns or ())
        table = ds.dataset(parts, schema=schema, format="parquet")
        for batch in table.to_batches(columns=list(columns or schema.names), filter=where, batch_size=ROWS_A_BATCH):
            yield from batch.to_pylist()
