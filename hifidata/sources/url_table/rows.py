"""Check the rows of a table: each describes one image."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hifidata.sources.base import MAX_NAME_CHARS, MAX_URL_CHARS, placeholder_identity
from hifidata.sources.url_table.columns import FaceColumnsConfig, TableColumnsConfig
from hifidata.sources.url_table.parse import TableRow

_SHA256 = re.compile("[0-9a-f]{64}")
_AROUND_NUMBERS = str.maketrans(",;[]()", "      ")


class UrlRow(NamedTuple):
    """The checked content of a row; missing texts are empty.

    Attributes:
        number: as ``TableRow.number``.
        identity: from the row; a placeholder if the row has none or cannot be read.
        problem: why the row cannot be used, otherwise empty.
        listed_face: x1, y1, x2, y2 relative to the image's width and height, within 0..1.
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
"""Keys of ``TableColumnsConfig`` with texts, in the order of its ``named()`` and of ``UrlRow``."""

MAX_CHARS = {"url": MAX_URL_CHARS, "landing_page": MAX_URL_CHARS}
"""Longest texts; of the other keys ``MAX_NAME_CHARS``."""


class _BadCell(ValueError):
    """A cell has no valid value."""


def read_rows(rows: Iterator[TableRow], columns: TableColumnsConfig) -> Iterator[UrlRow]:
    """Yield one ``UrlRow`` for every row, in order.

    Args:
        rows: cells in the order of ``columns.named()``.
        columns: their meaning.
    """
    positions = [TEXTS.index(key) for key, _ in columns.named() if key in TEXTS]
    n_without_identity = 0
    for row in rows:
        url_row = UrlRow(row.number, "", problem=row.problem) if row.problem else _url_row(row, positions, columns.face)
        if not url_row.identity:
            placeholder = placeholder_identity(n_without_identity)
            n_without_identity += 1
            url_row = url_row._replace(identity=placeholder, problem=url_row.problem or "no identity")
        yield url_row


def _url_row(row: TableRow, positions: Sequence[int], face: FaceColumnsConfig | None) -> UrlRow:
    texts = [""] * len(TEXTS)
    problem = ""
    for position, cell in zip(positions, row.cells, strict=False):  # the cells of the face follow
        try:
            texts[position] = _text(cell, MAX_CHARS.get(TEXTS[position], MAX_NAME_CHARS))
        except _BadCell as error:
            problem = problem or f"{TEXTS[position]}: {error}"
    if texts[-1]:
        texts[-1] = texts[-1].lower()
        if not _SHA256.fullmatch(texts[-1]):
            problem, texts[-1] = problem or "sha256: not 64 hex digits", ""
    if not texts[1]:
        problem = problem or "no URL"
    listed_face = None
    if face is not None:
        try:
            listed_face = _face(row.cells[len(positions) :], face)
        except _BadCell as error:
            problem = problem or f"face: {error}"
    return UrlRow._make((row.number, *texts, problem, listed_face))


def _text(cell: Any, max_chars: int) -> str:
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
    if len(text) > max_chars:
        raise _BadCell(f"longer than {max_chars} characters")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _BadCell("a lone surrogate")
    return text


def _face(cells: Sequence[Any], face: FaceColumnsConfig) -> list[float] | None:
    """Return the box relative to the image, or None if the row has none. Raises _BadCell."""
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
            raise _BadCell("the size of its image is missing")
        width, height = size if face.size_order == "width height" else size[::-1]
    if not (x2 > x1 and y2 > y1):
        raise _BadCell("a box without area")
    if not (x1 < width and y1 < height and x2 > 0 and y2 > 0):
        raise _BadCell("a box outside the image")
    return [max(x1, 0.0) / width, max(y1, 0.0) / height, min(x2, width) / width, min(y2, height) / height]


def _numbers(cells: Sequence[Any], n: int) -> list[float]:
    """Return the ``n`` numbers in one cell or in ``n`` cells; an empty list if all cells are empty."""
    parts: list[Any] = []
    for cell in cells:
        if isinstance(cell, str):
            parts += cell.translate(_AROUND_NUMBERS).split()
        elif isinstance(cell, (list, tuple)):
            parts += cell
        elif cell is not None and cell == cell:  # NaN is an empty cell in tables of numbers
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
