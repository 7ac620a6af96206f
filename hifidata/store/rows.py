"""Rows of committed identities, read from the fragments or, without ``state/``, from the manifests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import pyarrow.compute as pc
import pyarrow.dataset as ds

from hifidata.core.errors import DatasetError
from hifidata.core.schema import IDENTITY_COLUMNS, SOURCE_COLUMNS, VERDICT_COLUMNS, Row
from hifidata.store.fragments import parquet_errors, read_rows, schema_with
from hifidata.store.layout import DatasetFolder
from hifidata.store.verify import require_manifests

ROWS_PER_BATCH = 1024
"""Rows of a manifest in memory at a time; each row has an embedding of hundreds of numbers."""
_KNOWN = {"images": (*SOURCE_COLUMNS, *VERDICT_COLUMNS), "identities": IDENTITY_COLUMNS}


def has_fragments(folder: DatasetFolder) -> bool:
    """Return whether rows are read from fragments; False for a finished dataset without ``state/``."""
    return not folder.dataset_json.exists() or any(folder.fragments.glob("??/*.parquet"))


def identity_groups(folder: DatasetFolder, columns: Sequence[str] | None = None) -> Iterator[list[Row]]:
    """Yield the image rows of each committed identity.

    Args:
        folder: a dataset folder.
        columns: columns of images.parquet, including ``identity_id``; all columns by default.

    Raises:
        DatasetError: a fragment or manifest is damaged, or a manifest is missing or differs from dataset.json.
    """
    if has_fragments(folder):
        for fragment in folder.committed():
            yield read_rows(fragment, columns)
        return
    for _, rows in groupby(manifest_rows(folder, "images", columns), key=lambda row: row["identity_id"]):
        yield list(rows)


def manifest_rows(
    folder: DatasetFolder, name: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None
) -> Iterator[Row]:
    """Yield rows of images.parquet or identities.parquet in file order; a column that the file lacks is null.

    Raises:
        DatasetError: the manifest is missing, damaged or differs from dataset.json.
    """
    path = folder.manifests / f"{name}.parquet"
    require_manifests(folder, name)
    if not path.exists():
        raise DatasetError(
            f"{folder.root}: manifests/{name}.parquet is missing, and without state/ it cannot be made again; copy it again"
        )
    parts = [str(part) for part in sorted(path.glob("*.parquet"))] if path.is_dir() else [str(path)]
    with parquet_errors(path):
        schema = schema_with(parts, _KNOWN[name], columns or ())
        table = ds.dataset(parts, schema=schema, format="parquet")
        for batch in table.to_batches(columns=list(columns or schema.names), filter=where, batch_size=ROWS_PER_BATCH):
            yield from batch.to_pylist()
