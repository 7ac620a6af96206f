"""A list sorted by person without ever holding it: rows go into buckets on disk, one bucket is sorted at a time.

A bucket is a range of identity ids, so that reading bucket after bucket gives the same order however many there are.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hifidata.core.errors import SourceError
from hifidata.core.files import write_bytes
from hifidata.core.schema import identity_id_of
from hifidata.sources.url_table.rows import Listed

MAX_BUCKETS = 128  # all are open at once while they are written
BUCKET_BYTES = 2**20
FLUSH_ROWS = 2**13
READ_ROWS = 2**11
ABANDONED_S = 24 * 3600
"""A build that nobody finished for so long was killed."""
SCHEMA = pa.schema([
    ("identity", pa.uint64()), ("number", pa.int64()), ("identity_name", pa.string()), ("url", pa.string()),
    ("name", pa.string()), ("licence", pa.string()), ("landing_page", pa.string()), ("author", pa.string()),
    ("sha256", pa.string()), ("listed_face", pa.list_(pa.float64())), ("problem", pa.string()),
])  # fmt: skip
"""``Listed`` after its identity as a number, by which a bucket is chosen and sorted."""


def n_buckets_for(table_bytes: int) -> int:
    """How many buckets keep one at a few MiB. Only memory depends on it, so a guess of the size will do."""
    return min(max(-(-table_bytes // BUCKET_BYTES), 1), MAX_BUCKETS)


class Buckets:
    """The finished index of one list: a folder with ``bucket-*.arrow`` and, written last, ``index.json``.

    Args:
        folder: of this index alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def summary(self) -> dict[str, Any] | None:
        """What ``write`` was given and counted; None where the folder holds no whole index."""
        try:
            summary: dict[str, Any] = json.loads((self._folder / "index.json").read_text(encoding="utf-8"))
            sizes = {path.name: path.stat().st_size for path in self._folder.glob("bucket-*.arrow")}
        except (OSError, ValueError):
            return None
        return summary if summary["bytes"] == sizes else None

    def people(self) -> Iterator[tuple[str, list[Listed]]]:
        """``(identity id, rows in the list's order)``, ordered by id. Raises SourceError where the index is damaged."""
        try:
            for path in sorted(self._folder.glob("bucket-*.arrow")):
                for identity, rows in groupby(_sorted_rows(path), key=itemgetter(0)):
                    yield f"{identity:016x}", [_listed(row) for row in rows]
        except (OSError, pa.ArrowException) as error:
            raise SourceError(
                f"{self._folder}: the list's index cannot be read: {error}; remove that folder and run again"
            ) from error


def write_buckets(folder: Path, rows: Iterator[Listed], n_buckets: int) -> dict[str, Any]:
    """Makes an index in ``folder``, which appears whole or not at all; returns its summary.

    Raises:
        SourceError: what ``rows`` raises, or the disk is full or read-only.
    """
    building = folder.with_name(f"building-{folder.name}-{socket.gethostname()}-{os.getpid()}")
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        summary = _fill(building, rows, n_buckets)
        write_bytes(building / "index.json", json.dumps(summary).encode())
        _put_in_place(building, folder)
    except OSError as error:
        raise SourceError(
            f"{folder.parent}: the list's index cannot be written: {error.strerror or error}; make room there"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return summary


def remove_others(folder: Path) -> None:
    """Removes what the parent of ``folder`` holds of earlier lists and of builds that were killed."""
    for other in folder.parent.glob("list-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    for left in folder.parent.glob("building-*"):
        if left.exists() and time.time() - left.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(left, ignore_errors=True)


def _put_in_place(building: Path, folder: Path) -> None:
    try:
        os.replace(building, folder)
    except OSError:
        if Buckets(folder).summary is None:  # else another process was quicker, and its index says the same
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(building, folder)


def _fill(building: Path, rows: Iterator[Listed], n_buckets: int) -> dict[str, Any]:
    n_rows = n_usable = 0
    first_problem = ""
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    paths = [building / f"bucket-{number:03d}.arrow" for number in range(n_buckets)]
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_stream(path, SCHEMA, options=options)) for path in paths]
        pending: list[tuple[Any, ...]] = []
        last, identity = "", 0
        for row in rows:
            n_rows += 1
            if row.problem:
                first_problem = first_problem or f"{row.number}: {row.problem}"
            else:
                n_usable += 1
            if row.identity != last:
                last, identity = row.identity, int(identity_id_of(row.identity), 16)
            pending.append((identity, *row))
            if len(pending) == FLUSH_ROWS:
                _flush(pending, writers)
                pending.clear()
        _flush(pending, writers)
    sizes = {path.name: path.stat().st_size for path in paths}
    return {"rows": n_rows, "usable": n_usable, "first_problem": first_problem, "bytes": sizes}


def _flush(rows: list[tuple[Any, ...]], writers: list[Any]) -> None:
    if not rows:
        return
    columns = zip(*rows, strict=True)
    batch = pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )
    # The upper 32 bits choose the bucket: ranges of equal width, in order, without leaving 64 bits.
    upper = batch.column("identity").to_numpy() >> np.uint64(32)
    bucket = (upper * np.uint64(len(writers))) >> np.uint64(32)
    order = np.argsort(bucket, kind="stable")
    batch = batch.take(pa.array(order))
    starts = np.searchsorted(bucket[order], np.arange(len(writers) + 1))
    for number, writer in enumerate(writers):
        if starts[number] < starts[number + 1]:
            writer.write_batch(batch.slice(starts[number], starts[number + 1] - starts[number]))


def _sorted_rows(path: Path) -> Iterator[tuple[Any, ...]]:
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
        table = reader.read_all()
    table = table.sort_by([("identity", "ascending"), ("number", "ascending")])
    for batch in table.to_batches(READ_ROWS):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _listed(row: tuple[Any, ...]) -> Listed:
    return Listed._make(row[1:])
