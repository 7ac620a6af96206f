"""Index a table of URLs on disk: one SQLite file that returns the rows grouped by identity.

The sha256 of the file is part of its name. A file with other content is damaged and never read.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from hifidata.core.errors import SourceError
from hifidata.core.files import TEMPORARY_PREFIX
from hifidata.core.schema import identity_id_of
from hifidata.sources.url_table.rows import UrlRow
from hifidata.weights.find import sha256_of

COLUMNS = ("number INTEGER PRIMARY KEY", *UrlRow._fields[1:-1], "x1", "y1", "x2", "y2", "identity_id")
"""The fields of ``UrlRow``, its face as four numbers or nulls, and the identity id."""
_NO_FACE = (None, None, None, None)


class UrlIndex:
    """The finished index of one table.

    Args:
        path: its file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def identities(self) -> Iterator[tuple[str, list[UrlRow]]]:
        """Yield ``(identity id, rows in table order)``, ordered by id. Raises SourceError for an unreadable file."""
        with self._connection() as database:
            rows = database.execute("SELECT * FROM rows ORDER BY identity_id, number")
            for identity_id, group in groupby(rows, key=itemgetter(-1)):
                yield identity_id, [_row(values) for values in group]

    def unusable(self) -> tuple[int, str] | None:
        """Return None if a row is usable, else the number of rows and the first one as ``number: problem``."""
        with self._connection() as database:
            if database.execute("SELECT 1 FROM rows WHERE problem = ''").fetchone():
                return None
            # With min(), SQLite takes the other columns from the row that holds the minimum.
            n_rows, first = database.execute("SELECT count(*), min(number) || ': ' || problem FROM rows").fetchone()
            return n_rows, first or ""

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        # The crawl calls next() on one listing from several threads, one after another.
        location = f"{self.path.absolute().as_uri()}?immutable=1"
        try:
            with closing(sqlite3.connect(location, uri=True, check_same_thread=False)) as database:
                yield database
        except sqlite3.Error as error:
            raise SourceError(
                f"{self.path}: the table's index cannot be read: {error}; remove this file and run again"
            ) from error


def find_index(folder: Path, key: str) -> UrlIndex | None:
    """Return the undamaged index with this key in ``folder``, or None."""
    for path in folder.glob(f"{key}-*.sqlite"):
        with suppress(OSError):
            if path.name == _name(key, path):
                return UrlIndex(path)
    return None


def write_index(folder: Path, key: str, rows: Iterator[UrlRow]) -> UrlIndex:
    """Write an index to ``folder`` and remove the other ones there. The file appears whole or not at all.

    If another process has finished the same index, that one stays.

    Raises:
        SourceError: ``rows`` raised it, or the disk is full or read-only.
    """
    temporary = folder / f"{TEMPORARY_PREFIX}{key}-{os.uname().nodename}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        _fill(temporary, rows)
        if (index := find_index(folder, key)) is None:
            path = folder / _name(key, temporary)
            os.replace(temporary, path)
            index = UrlIndex(path)
        for other in folder.glob("*.sqlite"):
            if other != index.path:
                other.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        problem = getattr(error, "strerror", None) or error
        raise SourceError(f"{folder}: the table's index cannot be written: {problem}; make room there") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return index


def _name(key: str, path: Path) -> str:
    return f"{key}-{sha256_of(path)}.sqlite"


def _fill(path: Path, rows: Iterator[UrlRow]) -> None:
    # Nothing else opens this file, and the digest reveals a torn write: no locks, no journal, no fsync.
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?nolock=1", uri=True)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute(f"CREATE TABLE rows ({', '.join(COLUMNS)})")
        database.executemany(f"INSERT INTO rows VALUES ({', '.join('?' * len(COLUMNS))})", map(_values, rows))
        database.execute("CREATE INDEX by_identity ON rows (identity_id)")
        database.commit()


def _values(row: UrlRow) -> tuple[Any, ...]:
    return (*row[:-1], *(row.listed_face or _NO_FACE), identity_id_of(row.identity))


def _row(values: tuple[Any, ...]) -> UrlRow:
    *cells, x1, y1, x2, y2, _ = values
    return UrlRow._make((*cells, None if x1 is None else [x1, y1, x2, y2]))
