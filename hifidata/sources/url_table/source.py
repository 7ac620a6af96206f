"""A source for tables of URLs: one row per image, with the rows of an identity anywhere in the table."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hifidata.core.errors import SourceError
from hifidata.core.filenames import printable_name
from hifidata.core.schema import Candidate, IdentityTask
from hifidata.sources.base import judged
from hifidata.sources.reasons import BAD_ROW, DUPLICATE_URL
from hifidata.sources.url_table.columns import TableColumnsConfig, TableFormat
from hifidata.sources.url_table.index import UrlIndex, find_index, write_index
from hifidata.sources.url_table.parse import format_of, read_table
from hifidata.sources.url_table.rows import UrlRow, read_rows

INDEX_VERSION = 2
"""Part of the index key; increase it when the code reads a table differently."""


class UrlTableSource:
    """List the identities of a table of URLs, sorted by id; every row is exactly one candidate.

    The table is read once, into an index on disk that is sorted by identity. Memory holds a small part of it. An unusable
    row becomes a failed candidate, and a repeated URL of an identity becomes a dropped candidate.

    Args:
        path: CSV, TSV or JSON lines, each also gzipped, or Parquet.
        columns: the columns to read.
        table_format: format of the file; None: by its suffix.
        licence: recorded for rows without one.
        cache: folder only for the index, which later runs reuse while the table is unchanged. None: a temporary folder,
            removed with this object.
        kind: recorded in the manifest.
    """

    def __init__(
        self,
        path: Path,
        columns: TableColumnsConfig,
        table_format: TableFormat | None = None,
        licence: str | None = None,
        cache: Path | None = None,
        kind: str = "url_table",
    ) -> None:
        self._path = path
        self._columns = columns
        self._format = table_format
        self._licence = licence
        self._cache = cache
        self._kind = kind

    def identities(self) -> Iterator[IdentityTask]:
        """Yield one task per identity, ordered by id. Raises SourceError for an unreadable or unusable table."""
        for identity_id, rows in self._index().identities():
            name = next((row.name for row in rows if row.name and not row.problem), rows[0].identity)
            yield IdentityTask(identity_id, name, self._kind, tuple(self._candidates(rows)))

    def expand(self, task: IdentityTask) -> IdentityTask:
        """Return the task unchanged: the table contains every candidate."""
        return task

    def _index(self) -> UrlIndex:
        kind = format_of(self._path, self._format)
        key = self._key(kind)
        folder = self._cache_folder()
        index = find_index(folder, key)
        if index is None:
            rows = read_rows(read_table(self._path, kind, list(self._columns.named())), self._columns)
            index = write_index(folder, key, rows)
            if self._key(kind) != key:
                raise SourceError(f"source.path: {self._path}: changed during reading; run again")
        if (unusable := index.unusable()) is not None:
            n_rows, first = unusable
            if not n_rows:
                raise SourceError(f"source.path: {self._path}: contains no rows; expected one per image")
            raise SourceError(
                f"source.path: {self._path}: none of its {n_rows} rows can be used; the first is {self._unit} {first}"
            )
        return index

    def _key(self, kind: TableFormat) -> str:
        """Return a digest of the table's path, size, modification time and settings; a new one needs a new index."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise SourceError(
                f"source.path: {self._path}: {(error.strerror or 'cannot be read').lower()}; pass --set source.path=TABLE"
            ) from None
        settings = [
            INDEX_VERSION, str(self._path.resolve()), status.st_size, status.st_mtime_ns, kind, self._columns.model_dump(),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]

    def _cache_folder(self) -> Path:
        if self._cache is None:
            self._cache = Path(tempfile.mkdtemp(prefix="hifidata-list-"))
            weakref.finalize(self, shutil.rmtree, self._cache, ignore_errors=True)
        return self._cache

    @property
    def _unit(self) -> str:
        return "row" if format_of(self._path, self._format) == "parquet" else "line"

    def _candidates(self, rows: Sequence[UrlRow]) -> Iterator[Candidate]:
        first_with = {row.url: row.number for row in reversed(rows) if not row.problem}
        taken = set(first_with)
        n_same: dict[str, int] = {}
        for row in rows:
            if row.problem:
                path, outcome = f"{self._unit} {row.number}", judged("fetch", BAD_ROW, row.problem)
            elif first_with[row.url] == row.number:
                yield self._candidate(row, row.url, {})
                continue
            else:
                n_same[row.url] = n_same.get(row.url, 1) + 1
                path = f"{row.url}#{n_same[row.url]}"
                outcome = judged("fetch", DUPLICATE_URL, f"as in {self._unit} {first_with[row.url]}")
            while path in taken:  # a generated name must differ from every URL of the table
                path += "'"
            taken.add(path)
            outcome["message"] = f"{self._unit} {row.number}: {outcome['message']}"
            yield self._candidate(row, path, outcome)

    def _candidate(self, row: UrlRow, relative_path: str, outcome: dict[str, Any]) -> Candidate:
        facts = {
            "licence": row.licence or self._licence,
            "landing_page_uri": row.landing_page,
            "author": row.author,
            "expected_sha256": row.sha256,
            "listed_face": row.listed_face,
        }
        return Candidate(
            source_uri=row.url or f"{printable_name(self._path.name)}, {self._unit} {row.number}",
            relative_path=relative_path,
            version=row.sha256,
            locator=row.url,
            facts={name: value for name, value in facts.items() if value} | outcome,
        )
