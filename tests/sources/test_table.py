"""A bad row of a table is one bad row: with its line number, and without its neighbours."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hifidata.core.errors import SourceError
from hifidata.sources.url_table.parse import MAX_LINE_BYTES, MAX_RECORD_LINES, TableRow, format_of, read_table

COLUMNS = [("identity", "who"), ("url", "link")]


def rows_of(path: Path, data: bytes | str, kind: str | None = None) -> list[TableRow]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(read_table(path, format_of(path, kind), COLUMNS))  # type: ignore[arg-type]


def good(rows: list[TableRow]) -> list[tuple[int, list[str]]]:
    return [(row.number, list(row.cells)) for row in rows if not row.problem]


def bad(rows: list[TableRow]) -> dict[int, str]:
    return {row.number: row.problem for row in rows if row.problem}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
def test_every_text_format_gives_the_same_cells(tmp_path: Path, name: str, packed: bool) -> None:
    delimiter = "\t" if name == "t.tsv" else ","
    text = delimiter.join(("link", "x", "who")) + "\n" + delimiter.join(("u1", "-", "Ann Ü")) + "\n"
    if name == "t.jsonl":
        text = json.dumps({"link": "u1", "x": 1, "who": "Ann Ü"}) + "\n"
    data = gzip.compress(text.encode()) if packed else text.encode()
    rows = rows_of(tmp_path / (f"{name}.gz" if packed else name), data)
    assert [list(row.cells) for row in rows] == [["Ann Ü", "u1"]]
    # The content tells gzip, not the name.
    assert rows_of(tmp_path / name, data) == rows


def test_parquet_gives_cells_of_their_own_types(tmp_path: Path) -> None:
    pq.write_table(pa.table({"who": [7, None], "x": [1, 2], "link": ["u", "v"]}), tmp_path / "t.parquet")
    rows = list(read_table(tmp_path / "t.parquet", "parquet", COLUMNS))
    assert rows == [TableRow(1, (7, "u")), TableRow(2, (None, "v"))]


def test_parquet_bytes_that_are_no_utf8_do_not_hide_their_neighbours(tmp_path: Path) -> None:
    link = pa.array([b"ok", b"\xff\xfe"]).view(pa.binary()).cast(pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 2, link.buffers())
    pq.write_table(pa.table({"who": ["a", "b"], "link": broken}), tmp_path / "t.parquet")
    rows = list(read_table(tmp_path / "t.parquet", "parquet", COLUMNS))
    assert [row.cells[1] for row in rows] == [b"ok", b"\xff\xfe"]


@pytest.mark.parametrize("data", [
    "\ufeffwho,link\r\na,u\r\n\r\nb,v\r\n", "who,link\na,u\n\nb,v", " who , link \na,u\n\nb,v\n\n",
    '"who","link"\n"a","u"\n\n"b",v\n',
], ids=["bom and crlf", "no last line end", "spaces in the header", "quoted"])  # fmt: skip
def test_usual_dialects_of_csv_are_read(tmp_path: Path, data: str) -> None:
    assert good(rows_of(tmp_path / "t.csv", data)) == [(2, ["a", "u"]), (4, ["b", "v"])]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
@pytest.mark.parametrize("first", ["", "sep={}\r\n", '"sep={}"\n', "\ufeff"])
def test_the_content_shows_the_delimiter(tmp_path: Path, name: str, delimiter: str, first: str) -> None:
    lines = ("who|x y|link", "ann|1|u", '"b|o"| "2"| "v,;"')
    text = first.format(delimiter) + "\n".join(line.replace("|", delimiter) for line in lines)
    assert [cells for _, cells in good(rows_of(tmp_path / name, text))] == [["ann", "u"], [f"b{delimiter}o", "v,;"]]


def test_a_blank_before_a_quote_is_no_part_of_the_field(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "t.csv", 'who, link\n"Anna",  "http://a.test/x?a=""1"""\nBo, http://b.test\n')
    assert good(rows) == [(2, ["Anna", 'http://a.test/x?a="1"']), (3, ["Bo", " http://b.test"])]


def test_quoted_fields_hold_line_ends_delimiters_and_quotes(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "t.csv", 'who,link\n"a\nA, ""x""","u"\nb,5" v\n"c\n\nC",w\nd,x\n')
    assert good(rows) == [(2, ['a\nA, "x"', "u"]), (4, ["b", '5" v']), (5, ["c\n\nC", "w"]), (8, ["d", "x"])]


def test_bad_rows_are_told_apart_by_line_and_spare_their_neighbours(tmp_path: Path) -> None:
    data = (
        b"who,link\na,u1\nb\nc,u2,extra\n\xff,u3\nd,u4\nwho,link\n\0,u5\n"
        b'e,"u6"x\nf,' + b"u" * MAX_LINE_BYTES + b"\ng,u7\n"
    )
    rows = rows_of(tmp_path / "t.csv", data)
    assert good(rows) == [(2, ["a", "u1"]), (6, ["d", "u4"]), (11, ["g", "u7"])]
    assert bad(rows) == {
        3: "1 fields, the header has 2", 4: "3 fields, the header has 2", 5: "not UTF-8", 7: "the header again",
        8: "contains a NUL byte", 9: "unbalanced quotes", 10: f"longer than {MAX_LINE_BYTES} bytes",
    }  # fmt: skip


@pytest.mark.parametrize("n_after", [0, 3, MAX_RECORD_LINES + 50])
def test_a_quote_that_nobody_closes_takes_one_row(tmp_path: Path, n_after: int) -> None:
    rows = rows_of(tmp_path / "t.csv", 'who,link\na,"u\n' + "".join(f"b,{n}\n" for n in range(n_after)))
    assert bad(rows) == {2: "unbalanced quotes"}
    assert good(rows) == [(n + 3, ["b", str(n)]) for n in range(n_after)]


def test_an_open_quote_beside_another_or_before_a_broken_line_takes_one_row(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "t.csv", b'who,link\na,"u\nb,"v\nc,w\nd,"x\n\xff\ne,y\n')
    assert bad(rows) == dict.fromkeys((2, 3, 5), "unbalanced quotes") | {6: "not UTF-8"}
    assert good(rows) == [(4, ["c", "w"]), (7, ["e", "y"])]


def test_json_lines_that_are_none_spare_their_neighbours(tmp_path: Path) -> None:
    lines = ['{"who": "a", "link": "u", "x": 0}', "{", "[1]", "", '{"who": "b"}', "9" * 5000, "[" * 100_000]
    rows = rows_of(tmp_path / "t.jsonl", "\n".join(lines))
    assert good(rows) == [(1, ["a", "u"]), (5, ["b", None])]
    got_int = bad(rows).pop(6)
    assert bad(rows) == {2: "not JSON", 3: "expected a JSON object, got list", 6: got_int, 7: "not JSON"}
    assert got_int in ("not JSON", "expected a JSON object, got int")  # since 3.11 so large a number is refused


@pytest.mark.parametrize(("name", "data", "message"), [
    ("t.csv", b"who,lnk\na,u\n", r"no column 'link' \(url\); did you mean 'lnk'\? it has: 'who', 'lnk'"),
    ("t.csv", b"WHO,link\na,u\n", r"no column 'who' \(identity\); did you mean 'WHO'\?"),
    ("t.csv", b"who;lnk\na;u\n", r"no column 'link' \(url\); did you mean 'lnk'\? it has: 'who', 'lnk'"),
    ("t.csv", b"sep=;\n", "is empty"),
    ("t.csv", b"who,link,link\na,u,v\n", "2 columns have the name 'link'"),
    ("t.jsonl", b'{"who": "a"}\n', "no column 'link'"),
    ("t.csv", b"", "is empty"),
    ("t.csv", b"\xffwho,link\n", "header, line 1: not UTF-8"),
    ("t.csv", b"who,link\ra,u\r", "carriage returns"),
    ("t.csv", "who,link\n".encode("utf-16"), "is UTF-16; expected UTF-8"),
    ("t.csv", b"PK\x03\x04", "is a zip or Excel file"),
    ("t.csv", b"PAR1", "source.format: parquet"),
    ("t.csv.gz", gzip.compress(b"who,link\n" + b"a,u\n" * 9999, mtime=0)[:-20], "damaged gzip"),
    ("t.csv.gz", b"\x1f\x8bnot really", "damaged gzip"),
    ("t.parquet", b"who,link\n", "cannot be read as Parquet"),
    ("t.xls", b"", "source.format"),
])  # fmt: skip
def test_what_cannot_be_listed_is_one_line_that_says_why(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        rows_of(tmp_path / name, data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_missing_table_and_a_folder_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SourceError, match="no such file"):
        list(read_table(tmp_path / "nope", kind, COLUMNS))  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=r"source\.path: "):
        list(read_table(tmp_path, kind, COLUMNS))  # type: ignore[arg-type]
