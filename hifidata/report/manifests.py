"""Access to the manifests of a dataset folder, by column."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from hifidata.core.errors import DatasetError
from hifidata.core.schema import IDENTITY_COLUMNS, Column
from hifidata.stages.table import IMAGE_COLUMNS
from hifidata.store.fragments import parquet_errors, schema_with

THUMBNAILS_PER_READ = 1024
"""Thumbnails in memory at a time; bounds memory for a manifest of millions of rows."""


@dataclass(frozen=True)
class Manifests:
    """Reader of the Parquet manifests; each manifest is one file or a directory of part files.

    Attributes:
        dataset_dir: the folder that holds ``manifests/``.
    """

    dataset_dir: Path

    def path(self, name: str) -> Path:
        """Return the path ``manifests/<name>.parquet``."""
        return self.dataset_dir / "manifests" / f"{name}.parquet"

    def images(self, columns: Sequence[str], where: pc.Expression | None = None) -> pa.Table:
        """Read columns of images.parquet; a column that the file lacks is null. Raises DatasetError without the file."""
        return self._read("images", IMAGE_COLUMNS, columns, where)

    def identities(self, columns: Sequence[str], where: pc.Expression | None = None) -> pa.Table:
        """Read columns of identities.parquet, as ``images`` does."""
        return self._read("identities", IDENTITY_COLUMNS, columns, where)

    def thumbnails(self, image_ids: Collection[str]) -> dict[str, bytes]:
        """Read JPEG bytes by image_id, for those of ``image_ids`` that have a thumbnail."""
        if not self.path("thumbnails").exists():
            return {}
        wanted = pa.array(sorted(image_ids), pa.string())
        found: dict[str, bytes] = {}
        for part in _parts(self.path("thumbnails")):
            with parquet_errors(part), pq.ParquetFile(part, memory_map=True) as file:
                for batch in file.iter_batches(THUMBNAILS_PER_READ, columns=["image_id", "jpeg"]):
                    hits = batch.filter(pc.is_in(batch["image_id"], value_set=wanted))
                    found.update(zip(hits["image_id"].to_pylist(), hits["jpeg"].to_pylist(), strict=True))
        return {image_id: jpeg for image_id, jpeg in found.items() if jpeg}

    def _read(
        self, name: str, known: Sequence[Column], columns: Sequence[str], where: pc.Expression | None
    ) -> pa.Table:
        path = self.path(name)
        if not path.exists():
            raise DatasetError(
                f"{self.dataset_dir}: no manifests/{name}.parquet; expected a dataset that `hifidata run` has finished"
            )
        parts = [str(part) for part in _parts(path)]
        with parquet_errors(path):
            schema = schema_with(parts[:1], known, columns)
            return ds.dataset(parts, schema=schema, format="parquet").to_table(columns=list(columns), filter=where)


def _parts(path: Path) -> list[Path]:
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path]
