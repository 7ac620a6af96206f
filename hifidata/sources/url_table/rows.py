"""What one row of a list says about one picture, checked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hifidata.sources.url_table.columns import FaceColumnsConfig, TableColumnsConfig
from hifidata.sources.url_table.parse import TableRow

NO_IDENTITY = "(no identity)"
MAX_WITHOUT_IDENTITY = 10_000
"""Rows of nobody are no person; so many of them share a made-up one, so that none grows without bound."""
_SHA256 = re.compile("[0-9a-f]{64}")
_AROUND_NUMBERS = str.maketrans(",;[]()", "      ")


class UrlRow(NamedTuple):
    """A row's contents; texts are empty where the list says nothing.

    Attributes:
        number: as ``TableRow.number``.
        identity: who; ``NO_IDENTITY`` where the row does not say or cannot be read.
        problem: why the row cannot be used, otherwise empty.
        listed_face: x1, y1, x2, y2 over the picture's width and height, within 0..1.
    """

    number: int
    identity: str
    url: str = ""
    name: str = ""
    licence: str = ""
    landing_page: str = ""
    author: str = ""
    sha256: str = ""
    problem: str = ""
    listed_face: list[float] | None = None


TEXTS = ("identity", "url", "name", "licence", "landing_page", "author", "sha256")
"""Keys of ``Columns`` that hold texts, in the order of ``Columns.named()`` and of ``UrlRow``."""


class _BadCell(ValueError):
    """A cell does not hold what its column is for."""


def read_rows(rows: Iterator[TableRow], columns: TableColumnsConfig) -> Iterator[UrlRow]:
    """One ``UrlRow`` for every row, in order.

    Args:
        rows: cells in the order of ``columns.named()``.
        columns: what they hold.
    """
    places = [TEXTS.index(key) for key, _ in columns.named() if key in TEXTS]
    n_nobody = 0
    for row in rows:
        url_row = UrlRow(row.number, "", problem=row.problem) if row.problem else _url_row(row, places, columns.face)
        if not url_row.identity:
            part, n_nobody = n_nobody // MAX_WITHOUT_IDENTITY, n_nobody + 1
            nobody = f"{NO_IDENTITY} {part + 1}" if part else NO_IDENTITY
            url_row = url_row._replace(identity=nobody, problem=url_row.problem or "no identity")
        yield url_row


def _url_row(row: TableRow, places: Sequence[int], face: FaceColumnsConfig | None) -> UrlRow:
    texts = [""] * len(TEXTS)
    problem = ""
    for place, cell in zip(places, row.cells, strict=False):  # the face's cells come after them
        try:
            texts[place] = _text(cell)
        except _BadCell as error:
            problem = problem or f"{TEXTS[place]}: {error}"
    if texts[-1]:
        texts[-1] = texts[-1].lower()
        if not _SHA256.fullmatch(texts[-1]):
            problem, texts[-1] = problem or "sha256: not 64 hex digits", ""
    if not texts[1]:
        problem = problem or "no URL"
    listed_face = None
    if face is not None:
        try:
            listed_face = _face(row.cells[len(places) :], face)
        except _BadCell as error:
            problem = problem or f"face: {error}"
    return UrlRow(row.number, *texts, problem, listed_face)


def _text(cell: Any) -> str:
    if type(cell) is str:
        text = cell.strip()
    elif cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    elif isinstance(cell, bytes):
        try:
            text = cell.decode().strip()
        except UnicodeDecodeError:
            raise _BadCell("not UTF-8") from None
    elif isinstance(cell, (int, float)):
        text = str(cell)
    else:
        raise _BadCell(f"expected a text, got {type(cell).__name__}")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _BadCell("half a surrogate pair")
    return text


def _face(cells: Sequence[Any], face: FaceColumnsConfig) -> list[float] | None:
    """The box relative to the picture, or None where the list has none for this row. Raises _BadCell."""
    n_box = len(face.box)
    box = _numbers(cells[:n_box], 4)
    if not box:
        return None
    x1, y1, x2, y2 = box
    if face.layout == "xywh":
        x2, y2 = x1 + x2, y1 + y2
    width, height = 1.0, 1.0
    if face.size:
        size = _numbers(cells[n_box:], 2)
        if not size or min(size) <= 0:
            raise _BadCell("no size of the picture it belongs to")
        width, height = size if face.size_order == "width height" else size[::-1]
    if not (x2 > x1 and y2 > y1):
        raise _BadCell("a box of no area")
    if not (x1 < width and y1 < height and x2 > 0 and y2 > 0):
        raise _BadCell("a box outside the picture")
    return [max(x1, 0.0) / width, max(y1, 0.0) / height, min(x2, width) / width, min(y2, height) / height]


def _numbers(cells: Sequence[Any], n: int) -> list[float]:
    """``n`` numbers of one cell or of ``n`` cells; none where all cells are empty."""
    parts: list[Any] = []
    for cell in cells:
        if isinstance(cell, str):
            parts += cell.translate(_AROUND_NUMBERS).split()
        elif isinstance(cell, (list, tuple)):
            parts += cell
        elif cell is not None and cell == cell:  # NaN is what tables of numbers have for nothing
            parts.append(cell)
    if not parts:
        return []
    try:
        numbers = list(map(float, parts))
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != n or not all(map(math.isfinite, numbers)):
        raise _BadCell(f"expected {n} numbers")
    return numbers
