"""Any table of URLs is listed, or refused in one line, within bounds of time and memory."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

from hifidata.core.errors import SourceError
from hifidata.sources.url_table.columns import FaceColumnsConfig, TableColumnsConfig
from hifidata.sources.url_table.source import UrlTableSource
from tests.fuzz.bounded import damaged, fuzz, require_one_line

COLUMNS = TableColumnsConfig(identity="who", url="link", licence="lic", face=FaceColumnsConfig(box=("box",)))
CELLS = (
    "ann", "https://a.test/1.jpg", "", '"', '"a,b"', '"a\nb"', "0 0 1 1", "9" * 5000, "é" * 100_000, "\0", "\r", "\udcff", ";", "\t|",
    "sep=;", "\u202e", "who",
)  # fmt: skip
VALUES = (
    None,
    True,
    1e308,
    -1,
    [0, 0, 1, 1],
    [1] * 100_000,
    {"a": 1},
    "\ud800",
    "ann",
    "x" * 500_000,
    10**400,
    [[]],
    "",
)
TOKENS = (
    b'"',
    b"\n",
    b"\r\n",
    b"\0",
    b"\xff",
    b",",
    b";",
    b"\xef\xbb\xbf",
    b"[" * 5000,
    b"9" * 5000,
    b"who,link,lic,box\n",
)


def any_table(rng: random.Random, folder: Path) -> None:
    """Make a table of odd cells, damage it in half of the rounds, and list it."""
    kind = rng.choice(("csv", "jsonl", "parquet"))
    n_rows = rng.randrange(30)
    if kind == "csv":
        delimiter = rng.choice(",;\t|")
        rows = [("who", "link", "lic", "box"), *(rng.choices(CELLS, k=rng.choice((4, 4, 4, 2))) for _ in range(n_rows))]
        data = "\n".join(map(delimiter.join, rows)).encode("utf-8", "surrogateescape")
    elif kind == "jsonl":
        objects = [{key: rng.choice(VALUES) for key in ("who", "link", "lic", "box")} for _ in range(n_rows)]
        data = "\n".join(map(json.dumps, objects)).encode()
    else:
        data = parquet(rng, n_rows, folder / "made")
    if rng.random() < 0.5:
        data = damaged(rng, data, TOKENS)
    path = folder / f"t.{kind}"
    path.write_bytes(gzip.compress(data, 1) if kind != "parquet" and rng.random() < 0.2 else data)
    try:
        tasks = list(UrlTableSource(path, COLUMNS).identities())
    except SourceError as error:
        require_one_line(error)
        return
    for task in tasks:
        assert len({c.relative_path for c in task.candidates}) == len(task.candidates)
        texts = [[c.source_uri, c.relative_path, c.locator, dict(c.facts)] for c in task.candidates]
        json.dumps([task.identity_name, texts], ensure_ascii=False).encode()
        assert all(len(text) < 10_000 for one in texts for text in one[:3])


def parquet(rng: random.Random, n_rows: int, path: Path) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [text for text in CELLS if text.isascii() or "é" in text]
    columns = {name: [rng.choice(texts) for _ in range(n_rows)] for name in ("who", "link", "lic")}
    boxes = [[0.0] * rng.choice((4, 4, 0, 9, 10_000)) for _ in range(n_rows)]
    pq.write_table(pa.table({**columns, "box": pa.array(boxes, pa.list_(pa.float32()))}), path)
    return path.read_bytes()


def test_any_table_is_listed_or_refused() -> None:
    fuzz(any_table, 60)
