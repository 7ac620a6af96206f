"""Read the rows of a table file one at a time: CSV, TSV, JSON lines, Parquet; the first three also gzipped.

The header shows the delimiter of a CSV or TSV: comma, tab, semicolon or pipe.

The csv module is used because pyarrow's reader is too strict: a bad row must become one bad row with its line number.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import re
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from hifidata.core.errors import SourceError
from hifidata.core.messages import one_line
from hifidata.sources.base import MAX_NAME_CHARS, MAX_URL_CHARS
from hifidata.sources.url_table.columns import TableFormat

MAX_LINE_BYTES = 2**20
MAX_RECORD_LINES = 100
"""Maximum number of lines of a quoted field, so an unclosed quote does not consume the rest of the table."""
MAX_NUMBERS = 16
"""Values of a list in one cell; a face box has four."""
MAX_SHOWN_KEYS, MAX_SHOWN_CHARS, MAX_COMPARED_KEYS = 30, 100, 1000
"""Of the columns in a message, and of those that are compared with a missing one."""
ROWS_PER_BATCH = 256
"""Rows of a Parquet table in memory, whose texts may be long."""
N_SAMPLED_OBJECTS = 1000
"""JSON lines have no header: a column that the first objects do not contain is missing."""
SUFFIXES: Mapping[str, TableFormat] = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
}  # fmt: skip
DELIMITERS = (",", "\t", ";", "|")
_SEP_LINE = re.compile(r'"?sep=(?P<delimiter>[^"\w])"?', re.IGNORECASE)
"""A first line that names the delimiter, as Excel writes and reads it."""
GZIP_MAGIC = b"\x1f\x8b"
NOT_TEXT = {
    b"PAR1": "Parquet (set source.format: parquet)", b"PK\x03\x04": "a zip or Excel file", b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}  # fmt: skip


class TableRow(NamedTuple):
    """One row.

    Attributes:
        number: line of the file where it begins, from 1; for Parquet the row, from 1.
        cells: values in the order of the requested columns; empty if the row cannot be read.
        problem: why it cannot be read, otherwise empty.
    """

    number: int
    cells: Sequence[Any]
    problem: str = ""


class _Line(NamedTuple):
    number: int
    text: str
    problem: str = ""


def format_of(path: Path, named: TableFormat | None) -> TableFormat:
    """Return the recipe's format, or that of the file name. Raises SourceError for an unknown suffix."""
    if named is not None:
        return named
    name = path.name.lower().removesuffix(".gz")
    for suffix, found in SUFFIXES.items():
        if name.endswith(suffix):
            return found
    raise SourceError(
        f"source.path: {path}: unknown suffix, expected {', '.join(SUFFIXES)} (.gz may follow); "
        "rename the file or set source.format"
    )


def read_table(path: Path, kind: TableFormat, columns: Sequence[tuple[str, str]]) -> Iterator[TableRow]:
    """Yield every row of the table in order, with only a few in memory.

    Args:
        path: the file.
        kind: its format.
        columns: ``(key in the recipe, column)``; the key is for messages.

    Raises:
        SourceError: the file is missing, damaged or of another format, or lacks a column.
    """
    try:
        if kind == "parquet":
            yield from _parquet_rows(path, columns)
        else:
            with _open_text(path) as file:
                yield from (_json_rows if kind == "jsonl" else _csv_rows)(path, file, columns)
    except FileNotFoundError:
        raise SourceError(f"source.path: {path}: no such file; pass --set source.path=TABLE") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"source.path: {path}: damaged gzip file: {one_line(error)}; download it again") from error
    except OSError as error:
        raise SourceError(f"source.path: {path}: cannot be read: {error.strerror or one_line(error)}") from error


@contextmanager
def _open_text(path: Path) -> Iterator[BinaryIO]:
    with open(path, "rb") as file:
        start = file.peek(4)[:4]
        for magic, found in NOT_TEXT.items():
            if start.startswith(magic):
                raise SourceError(f"source.path: {path}: is {found}; expected UTF-8 text")
        if start.startswith(GZIP_MAGIC):
            with io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file)), 2**18) as text:
                yield text
        else:
            yield file


def _lines(file: BinaryIO) -> Iterator[_Line]:
    """Yield all lines without their line ends, blank ones too."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_LINE_BYTES)
            yield _Line(number, "", f"longer than {MAX_LINE_BYTES} bytes")
            continue
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            yield _Line(number, "", "not UTF-8")
            continue
        yield _Line(number, text, "contains a NUL byte" if "\0" in text else "")


def _csv_rows(path: Path, file: BinaryIO, columns: Sequence[tuple[str, str]]) -> Iterator[TableRow]:
    lines = _lines(file)
    first = _first_line(lines)
    named = _SEP_LINE.fullmatch(first.text) if first else None
    if named:
        first = _first_line(lines)
    if first is None:
        raise SourceError(f"source.path: {path}: is empty; expected a header and rows")
    delimiter = named["delimiter"] if named else _delimiter_of(first.text, [column for _, column in columns])
    records = _csv_records(chain((first,), lines), delimiter)
    first_record = next(records)
    if first_record.problem or "\r" in "".join(first_record.cells):
        problem = first_record.problem or "contains carriage returns; save the file with Unix or Windows line ends"
        raise SourceError(f"source.path: {path}: header, line {first_record.number}: {problem}")
    header = [cell.strip() for cell in first_record.cells]
    positions = _column_positions(path, header, columns)
    for number, cells, problem in records:
        if problem:
            yield TableRow(number, (), problem)
        elif len(cells) != len(header):
            yield TableRow(number, (), f"{len(cells)} fields, the header has {len(header)}")
        elif cells == first_record.cells:
            yield TableRow(number, (), "the header again")
        else:
            yield TableRow(number, [cells[position] for position in positions])


def _first_line(lines: Iterator[_Line]) -> _Line | None:
    return next((line for line in lines if line.problem or line.text), None)


def _delimiter_of(header: str, columns: Sequence[str]) -> str:
    """Return the delimiter with which the header has the wanted columns, otherwise the one that gives most columns."""

    def fit(delimiter: str) -> tuple[int, int]:
        names = [name.strip() for name in _fields(header, delimiter) or header.split(delimiter)]
        return sum(column in names for column in columns), len(names)

    return max(DELIMITERS, key=fit)


def _csv_records(lines: Iterator[_Line], delimiter: str) -> Iterator[TableRow]:
    """Yield records split into fields; a quoted field may span lines."""
    ahead: deque[_Line] = deque()
    while line := (ahead.popleft() if ahead else next(lines, None)):
        if line.problem:
            yield TableRow(line.number, (), line.problem)
        elif '"' not in line.text:  # most lines; the csv module gives the same result, but is slower
            if line.text:
                yield TableRow(line.number, line.text.split(delimiter))
        else:
            yield _quoted_record(line, ahead, lines, delimiter)


def _quoted_record(line: _Line, ahead: deque[_Line], lines: Iterator[_Line], delimiter: str) -> TableRow:
    fields = _fields(line.text, delimiter)
    if fields is None and line.text.count('"') % 2:
        taken = _lines_of_quoted_field(ahead, lines)
        if taken and taken[-1].text.count('"') % 2:
            fields = _fields("\n".join([line.text, *(part.text for part in taken)]), delimiter)
        if fields is None:
            ahead.extendleft(reversed(taken))
    return TableRow(line.number, fields or (), "" if fields else "unbalanced quotes")


def _lines_of_quoted_field(ahead: deque[_Line], lines: Iterator[_Line]) -> list[_Line]:
    """Return the lines up to the one that closes the quote, at most ``MAX_RECORD_LINES``."""
    taken: list[_Line] = []
    while len(taken) < MAX_RECORD_LINES and (line := (ahead.popleft() if ahead else next(lines, None))):
        taken.append(line)
        if line.problem or line.text.count('"') % 2:
            break
    return taken


def _fields(text: str, delimiter: str) -> list[str] | None:
    try:
        return next(csv.reader((text,), delimiter=delimiter, strict=True, skipinitialspace=True))
    except csv.Error:
        return None


def _json_rows(path: Path, file: BinaryIO, columns: Sequence[tuple[str, str]]) -> Iterator[TableRow]:
    names = [column for _, column in columns]
    parsed = (_json_object(line) for line in _lines(file) if line.problem or line.text.strip())
    keys: dict[str, None] = {}
    sample = []
    for number, found, problem in islice(parsed, N_SAMPLED_OBJECTS):
        keys |= dict.fromkeys(key for key in islice(found, MAX_SHOWN_KEYS) if len(key) <= MAX_NAME_CHARS)
        keys |= dict.fromkeys(name for name in names if name in found)
        sample.append(_json_row(number, found, problem, names))
    if keys:
        _column_positions(path, list(keys), columns)
    yield from sample
    yield from (_json_row(*one, names) for one in parsed)


def _json_row(number: int, found: Mapping[str, Any], problem: str, names: Sequence[str]) -> TableRow:
    return TableRow(number, () if problem else [_bounded(found.get(name)) for name in names], problem)


def _bounded(cell: Any) -> Any:
    """Return a cell of JSON, cut where it is longer than any that is used."""
    if isinstance(cell, str):
        return cell[: MAX_URL_CHARS + 1]
    return cell[:MAX_NUMBERS] if isinstance(cell, list) else cell


def _json_object(line: _Line) -> tuple[int, Mapping[str, Any], str]:
    if line.problem:
        return line.number, {}, line.problem
    try:
        value = json.loads(line.text)
    except (ValueError, RecursionError):
        return line.number, {}, "not JSON"
    if not isinstance(value, dict):
        return line.number, {}, f"expected a JSON object, got {type(value).__name__}"
    return line.number, value, ""


def _parquet_rows(path: Path, columns: Sequence[tuple[str, str]]) -> Iterator[TableRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # opened here, because Arrow opens no path that is not UTF-8
        with open(path, "rb") as file, pq.ParquetFile(file, buffer_size=2**20, pre_buffer=False) as table:
            _column_positions(path, table.schema_arrow.names, columns)
            names = [column for _, column in columns]
            number = 0
            for batch in table.iter_batches(ROWS_PER_BATCH, columns=list(dict.fromkeys(names))):
                values = {name: _values(batch.column(name)) for name in batch.schema.names}
                for cells in zip(*(values[name] for name in names), strict=True):
                    number += 1
                    yield TableRow(number, cells)
    except (pa.ArrowException, OverflowError) as error:
        raise SourceError(f"source.path: {path}: cannot be read as Parquet: {one_line(error)}") from error


def _values(column: Any) -> list[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, longest = column.type, 4 * MAX_URL_CHARS  # bytes of UTF-8
    if (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and (
        pc.max(pc.binary_length(column)).as_py() or 0
    ) > longest:
        column = pc.binary_slice(column.cast(pa.large_binary()), 0, longest + 4)
    elif pa.types.is_list(kind) and (pc.max(pc.list_value_length(column)).as_py() or 0) > MAX_NUMBERS:
        column = pc.list_slice(column, 0, MAX_NUMBERS)

    try:
        return cast(list[Any], column.to_pylist())
    except UnicodeDecodeError:  # Parquet does not enforce UTF-8; as bytes, only the affected rows are bad
        return cast(list[Any], column.cast(pa.large_binary()).to_pylist())


def _column_positions(path: Path, header: Sequence[str], columns: Sequence[tuple[str, str]]) -> list[int]:
    for key, column in columns:
        n_found = header.count(column)
        if n_found == 1:
            continue
        where = f"source.path: {path}"
        if n_found:
            raise SourceError(f"{where}: {n_found} columns have the name {column!r} ({key}); rename all but one")
        lowered = {name.lower(): name for name in reversed(header[:MAX_COMPARED_KEYS]) if len(name) < MAX_SHOWN_CHARS}
        close = difflib.get_close_matches(column.lower(), lowered, n=1, cutoff=0.5)
        hint = f"did you mean {lowered[close[0]]!r}? " if close else ""
        shown = ", ".join(repr(name[:MAX_SHOWN_CHARS]) for name in header[:MAX_SHOWN_KEYS])
        shown += " ..." if len(header) > MAX_SHOWN_KEYS else ""
        raise SourceError(f"{where}: no column {column!r} ({key}); {hint}it has: {shown}")
    return [header.index(column) for _, column in columns]
