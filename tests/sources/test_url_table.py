"""Every row of a table of URLs is exactly one candidate, whatever the row holds, and memory does not grow with the table."""

from __future__ import annotations

import csv
import gc
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from hifidata.config.recipe import load_recipe, resolve
from hifidata.core.errors import RecipeError, SourceError
from hifidata.core.files import remove_temporary
from hifidata.core.schema import Candidate, IdentityTask, identity_id_of
from hifidata.run.plan import list_tasks, make_plan, open_remote
from hifidata.sources import base
from hifidata.sources.url_table import index as index_module
from hifidata.sources.url_table import rows as rows_module
from hifidata.sources.url_table import source as source_module
from hifidata.sources.url_table.columns import FaceColumnsConfig, TableColumnsConfig
from hifidata.sources.url_table.imdb_face import imdb_face_source
from hifidata.sources.url_table.source import UrlTableSource
from tests.conftest import PROJECT_ROOT

WHO_LINK = TableColumnsConfig(identity="who", url="link")
FULL = TableColumnsConfig(
    identity="who", url="link", name="name", licence="lic", landing_page="page", author="by", sha256="sha",
    face=FaceColumnsConfig(box=("box",)),
)  # fmt: skip
SHA = hashlib.sha256(b"x").hexdigest()


def table(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def people(source: UrlTableSource) -> dict[str, IdentityTask]:
    return {task.identity_name: task for task in source.identities()}


def outcome(candidate: Candidate) -> tuple[str, str]:
    return candidate.facts.get("reason", "to fetch"), candidate.facts.get("message", "")


def test_rows_of_a_person_may_lie_anywhere_and_keep_their_order(tmp_path: Path) -> None:
    rows = [("who", "link"), ("ann", "u1"), ("bob", "u2"), ("ann", "u0"), ("bob", "u1"), ("ann", "u3")]
    found = people(UrlTableSource(table(tmp_path / "t.csv", rows), WHO_LINK))
    assert {name: [c.relative_path for c in task.candidates] for name, task in found.items()} == {
        "ann": ["u1", "u0", "u3"], "bob": ["u2", "u1"],
    }  # fmt: skip
    first = found["bob"].candidates[0]
    assert (first.source_uri, first.locator, first.version, first.facts) == ("u2", "u2", "", {})
    assert found["bob"].identity_id == identity_id_of("bob")


def test_what_the_list_knows_goes_into_the_manifest(tmp_path: Path) -> None:
    rows = [
        ("sha", "box", "who", "name", "link", "lic", "page", "by"),
        (SHA.upper(), "0.1, 0.2 0.3;0.4", "7", "Ann", " u1 ", "CC0-1.0", "p", "Bob"),
        ("", "", "7", "Anna", "u2", "", "", ""),
    ]
    (task,) = UrlTableSource(table(tmp_path / "t.csv", rows), FULL, licence="ours").identities()
    assert (task.identity_name, task.identity_id, task.source) == ("Ann", identity_id_of("7"), "url_table")
    assert task.candidates[0].facts == {
        "licence": "CC0-1.0", "landing_page_uri": "p", "author": "Bob", "expected_sha256": SHA,
        "listed_face": [0.1, 0.2, 0.3, 0.4],
    }  # fmt: skip
    assert (task.candidates[0].version, task.candidates[0].locator) == (SHA, "u1")
    assert task.candidates[1].facts == {"licence": "ours"}


def test_a_url_listed_again_is_dropped_within_its_person_only(tmp_path: Path) -> None:
    rows = [("who", "link"), ("a", "u"), ("b", "u"), ("a", "u"), ("a", "u#2"), ("a", "v"), ("a", "u")]
    found = people(UrlTableSource(table(tmp_path / "t.csv", rows), WHO_LINK))
    assert [(c.relative_path, *outcome(c)) for c in found["a"].candidates] == [
        ("u", "to fetch", ""),
        ("u#2'", "duplicate_url", "line 4: as in line 2"),  # u#2 is a URL of the list's own
        ("u#2", "to fetch", ""),
        ("v", "to fetch", ""),
        ("u#3", "duplicate_url", "line 7: as in line 2"),
    ]
    assert [outcome(c) for c in found["b"].candidates] == [("to fetch", "")]
    assert found["a"].candidates[1].facts | {"message": ""} == {
        "status": "dropped", "stage": "fetch", "reason": "duplicate_url", "message": "",
    }  # fmt: skip


def test_rows_that_cannot_be_used_are_failed_candidates_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [
        "who,link,name,lic,page,by,sha,box", "a,u1,,,,,,", "a,,,,,,,", "a,u3,,,,,0123,", "a,u4,,,,,,1 2 3", "a", ",u6,,,,,,",
        "a,u7,,,,,,0.5 0.5 0.5 0.6", "a,u8,,,,,,1.5 0 1.6 1", "a,u9,,,,,,0 0 inf 1", "a,line 3,,,,,,",
    ]  # fmt: skip
    path.write_bytes("\n".join(lines).encode() + b"\n\xff,u11,,,,,,\n")
    found = people(UrlTableSource(path, FULL))
    assert {c.relative_path: outcome(c) for c in found["a"].candidates} == {
        "u1": ("to fetch", ""),
        "line 3'": ("bad_row", "line 3: no URL"),
        "line 4": ("bad_row", "line 4: sha256: not 64 hex digits"),
        "line 5": ("bad_row", "line 5: face: expected 4 numbers"),
        "line 8": ("bad_row", "line 8: face: a box without area"),
        "line 9": ("bad_row", "line 9: face: a box outside the image"),
        "line 10": ("bad_row", "line 10: face: expected 4 numbers"),
        "line 3": ("to fetch", ""),  # not much of a URL, but the fetcher's to judge
    }
    assert {c.relative_path: outcome(c)[1] for c in found["(no identity)"].candidates} == {
        "line 6": "line 6: 1 fields, the header has 8", "line 7": "line 7: no identity", "line 12": "line 12: not UTF-8",
    }  # fmt: skip
    failed = found["a"].candidates[1]
    assert (failed.facts["status"], failed.facts["stage"]) == ("failed", "fetch")
    assert (failed.source_uri, failed.locator) == ("t.csv, line 3", "")


def test_rows_of_nobody_are_shared_out_before_they_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "MAX_WITHOUT_IDENTITY", 2)
    rows = [("who", "link"), ("a", "u"), *([("", "v")] * 5)]
    found = people(UrlTableSource(table(tmp_path / "t.csv", rows), WHO_LINK))
    assert {name: len(task.candidates) for name, task in found.items()} == {
        "a": 1, "(no identity)": 2, "(no identity) 2": 2, "(no identity) 3": 1,
    }  # fmt: skip


@pytest.mark.parametrize("column", ["who", "link", "name", "lic", "page", "by", "sha"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_text_column_has_a_longest_text(tmp_path: Path, kind: str, column: str) -> None:
    row = dict.fromkeys(("name", "lic", "page", "by"), "x") | {"who": "a", "link": "u", "sha": SHA, "box": "0 0 1 1"}
    rows = [row, row | {"link": "v", column: "é" * 40_000}]
    path = tmp_path / f"t.{kind}"
    if kind == "csv":
        path.write_text("\n".join([",".join(row), *(",".join(one.values()) for one in rows)]), encoding="utf-8")
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    found = [c for task in UrlTableSource(path, FULL).identities() for c in task.candidates]
    bad = [c for c in found if c.facts.get("reason") == "bad_row"]
    assert (len(found), len(bad)) == (2, 1)
    assert all(
        len(text) < 10_000 for text in (bad[0].source_uri, bad[0].relative_path, *map(str, bad[0].facts.values()))
    )


@pytest.mark.parametrize("seed", range(3))
def test_every_row_of_a_hostile_table_is_exactly_one_candidate_with_a_name_of_its_own(
    tmp_path: Path, seed: int
) -> None:
    import random

    random.seed(seed)
    cells = ["a", "b", "", "u", "u#2", "u#2'", "line 5", '"', 'x"y', '"q,r"', "\t", "Ü", SHA, "0 0 1 1", "é" * 9]
    lines = [",".join(random.choice(cells) for _ in range(random.choice([8, 8, 8, 3]))) for _ in range(300)]
    lines = [line for line in lines if line.count('"') % 2 == 0]  # an open quote may join lines by right
    path = tmp_path / "t.csv"
    path.write_text("who,link,name,lic,page,by,sha,box\n" + "\n".join(lines) + "\n", encoding="utf-8")
    tasks = list(UrlTableSource(path, FULL).identities())
    assert sum(len(task.candidates) for task in tasks) == len(lines)
    for task in tasks:
        names = [c.relative_path for c in task.candidates]
        assert len(set(names)) == len(names)
        assert all(c.relative_path == c.locator for c in task.candidates if "status" not in c.facts)


def test_identities_are_ordered_by_id_and_rows_as_in_the_table(tmp_path: Path) -> None:
    rows = [(f"p{n % 90}", f"u{n}") for n in range(700)]
    tasks = list(UrlTableSource(table(tmp_path / "t.csv", [("who", "link"), *rows]), WHO_LINK).identities())
    assert [task.identity_id for task in tasks] == sorted({identity_id_of(who) for who, _ in rows})
    assert {(task.identity_name, c.locator) for task in tasks for c in task.candidates} == set(rows)
    assert all([c.locator for c in t.candidates] == [u for w, u in rows if w == t.identity_name] for t in tasks)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_face_boxes_come_in_every_form_a_recipe_can_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = {"who": ["a"], "link": ["u"], "box": [[10, 20, 30, 20]], "x": [10], "y": [20], "w": [30], "h": [20]}
    content |= {"W": [100], "H": [50], "hw": ["50 100"]}  # type: ignore[dict-item]
    if name == "t.parquet":
        pq.write_table(pa.table(content), path)
    elif name == "t.jsonl":
        path.write_text(json.dumps({key: values[0] for key, values in content.items()}) + "\n")
    else:
        table(path, [tuple(content), tuple(values[0] for values in content.values())])
    for face in (
        FaceColumnsConfig(box=("box",), layout="xywh", unit="pixels", size=("W", "H")),
        FaceColumnsConfig(
            box=("x", "y", "w", "h"), layout="xywh", unit="pixels", size=("hw",), size_order="height width"
        ),
        FaceColumnsConfig(
            box=("x", "y", "w", "h"), layout="xywh", unit="pixels", size=("H", "W"), size_order="height width"
        ),
    ):
        columns = TableColumnsConfig(identity="who", url="link", face=face)
        (task,) = UrlTableSource(path, columns).identities()
        assert task.candidates[0].facts["listed_face"] == [0.1, 0.4, 0.4, 0.8]


@pytest.mark.parametrize("settings", [
    {"box": ["a", "b"]}, {"box": "a", "unit": "pixels"}, {"box": "a", "size": "b"}, {"box": "a", "unit": "px"},
])  # fmt: skip
def test_face_columns_that_say_too_little_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FaceColumnsConfig.model_validate(settings)


def test_values_of_other_types_are_text_or_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    lines = [
        {"who": 7, "link": "u"}, {"who": 7.5, "link": "u"}, {"who": ["x"], "link": "u"}, {"who": "a", "link": {}},
        {"who": "\ud800", "link": "u"}, {"who": None, "link": "u"},
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)))
    found = {name: [outcome(c)[1] for c in t.candidates] for name, t in people(UrlTableSource(path, WHO_LINK)).items()}
    assert found == {
        "7": [""], "7.5": [""], "a": ["line 4: url: expected a text, got dict"],
        "(no identity)": [
            "line 3: identity: expected a text, got list", "line 5: identity: a lone surrogate", "line 6: no identity",
        ],
    }  # fmt: skip


@pytest.mark.parametrize(("rows", "message"), [
    ([("who", "link")], "contains no rows"),
    ([("who", "link"), ("", "u"), ("", "v")], "none of its 2 rows can be used; the first is line 2: no identity"),
    ([("who", "lnk"), ("a", "u")], "did you mean 'lnk'"),
])  # fmt: skip
def test_a_table_that_lists_nothing_says_so_and_leaves_no_index(
    tmp_path: Path, rows: list[tuple[str, ...]], message: str
) -> None:
    cache = tmp_path / "cache"
    source = UrlTableSource(table(tmp_path / "t.csv", rows), WHO_LINK, cache=cache)
    for _ in range(2):
        with pytest.raises(SourceError, match=message):
            next(source.identities())
    assert not list(cache.glob(".hifi-tmp-*"))


def test_the_index_is_reused_until_the_table_or_its_reading_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    read_table = source_module.read_table

    def counted(path: Path, *rest: Any) -> Any:
        reads.append(path)
        return read_table(path, *rest)

    monkeypatch.setattr(source_module, "read_table", counted)
    path, cache = table(tmp_path / "t.csv", [("who", "link"), ("a", "u")]), tmp_path / "cache"

    def listing(columns: TableColumnsConfig = WHO_LINK) -> tuple[list[str], int]:
        reads.clear()
        tasks = list(UrlTableSource(path, columns, cache=cache).identities())
        return [c.locator for task in tasks for c in task.candidates], len(reads)

    assert listing() == (["u"], 1)
    assert listing() == (["u"], 0)
    assert listing(TableColumnsConfig(identity="link", url="who")) == (["a"], 1)
    table(path, [("who", "link"), ("a", "u"), ("a", "v")])
    assert listing() == (["u", "v"], 1)
    assert len(list(cache.iterdir())) == 1  # old indexes would fill the disk


def flip_bit(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [
    lambda content: content[:-9], lambda content: content + b"\0", lambda _: b"", lambda content: flip_bit(content, 0),
    lambda content: flip_bit(content, content.index(b"https://e.org/12")), lambda content: flip_bit(content, len(content) - 1),
])  # fmt: skip
def test_a_damaged_index_is_rebuilt_and_never_read(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    rows = [(f"p{n % 9}", f"https://e.org/{n}") for n in range(200)]
    path, cache = table(tmp_path / "t.csv", [("who", "link"), *rows]), tmp_path / "cache"
    tasks = list(UrlTableSource(path, WHO_LINK, cache=cache).identities())
    (index,) = cache.iterdir()
    whole = index.read_bytes()
    index.write_bytes(damage(whole))
    assert list(UrlTableSource(path, WHO_LINK, cache=cache).identities()) == tasks
    assert [entry.read_bytes() for entry in cache.iterdir()] == [whole]


KILLED = """
import os, signal, sys
from pathlib import Path
from hifidata.sources.url_table.index import write_index
from hifidata.sources.url_table.rows import UrlRow
def rows():
    for number in range(20_000):
        yield UrlRow(number, "a", f"https://e.org/{number}")
    os.kill(os.getpid(), signal.SIGKILL)
write_index(Path(sys.argv[1]), "key", rows())
"""


def test_a_killed_build_leaves_only_a_temporary_file(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.stat().st_size > 0
    assert index_module.find_index(tmp_path, "key") is None
    assert remove_temporary(tmp_path) == 1  # by the next run on the folder


def test_of_two_builders_the_slower_one_leaves_the_index_to_its_readers(tmp_path: Path) -> None:
    rows = [rows_module.UrlRow(2, "a", "u")]
    first = index_module.write_index(tmp_path, "key", iter(rows))
    inode = first.path.stat().st_ino
    assert index_module.write_index(tmp_path, "key", iter(rows)).path == first.path
    assert first.path.stat().st_ino == inode
    assert list(tmp_path.iterdir()) == [first.path]


def test_a_listing_may_be_read_from_several_threads_in_turn(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", [("who", "link"), ("a", "u"), ("b", "v"), ("c", "w")])
    tasks = UrlTableSource(path, WHO_LINK).identities()
    found = []
    for _ in range(3):
        with ThreadPoolExecutor(1) as thread:
            found.append(thread.submit(next, tasks).result())
    assert {task.identity_name for task in found} == {"a", "b", "c"}


def test_without_a_cache_the_index_goes_with_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source = UrlTableSource(table(tmp_path / "t.csv", [("who", "link"), ("a", "u")]), WHO_LINK)
    assert len(list(source.identities())) == len(list(source.identities())) == 1
    assert list(tmp_path.glob("hifidata-list-*/*.sqlite"))
    del source
    gc.collect()
    assert not list(tmp_path.glob("hifidata-list-*"))


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    source = UrlTableSource(
        table(tmp_path / "t.csv", [("who", "link"), ("a", "u")]), WHO_LINK, cache=tmp_path / "cache"
    )
    with pytest.raises(SourceError, match="index cannot be written"):
        list(source.identities())


def test_a_recipe_plans_a_table_and_lists_it_again_the_same(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", [("who", "link"), ("a", "u"), ("b", "v"), ("a", "u")])
    source = {"kind": "url_table", "path": str(path), "columns": {"identity": "who", "url": "link"}}
    recipe = resolve({"name": "t", "source": source}, "t")
    plan = make_plan(recipe)
    assert (len(plan.candidates_of), plan.n_candidates) == (2, 3)
    assert [task.identity_id for task in list_tasks(recipe, plan.candidates_of)] == list(plan.candidates_of)
    remote = open_remote(recipe, tmp_path / "cache")
    assert remote is not None
    task = next(remote.identities())
    assert remote.expand(task) is task


@pytest.mark.parametrize(("source", "message"), [
    ({"columns": {"identity": "a"}}, "source.columns.url: Field required"),
    ({"columns": {"identity": "a", "url": "b", "licens": "c"}}, "did you mean licence?"),
    ({"columns": {"identity": "a", "url": "b", "face": {"box": "c", "unit": "pixels"}}}, "boxes in pixels need the size"),
    ({"columns": {"identity": "a", "url": "b"}, "format": "xlsx"}, "source.format"),
])  # fmt: skip
def test_a_recipe_that_names_columns_wrongly_says_which(source: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve({"name": "t", "source": {"kind": "url_table", "path": "t.csv", **source}}, "t")
    assert message in str(caught.value)


IMDB_HEADER = ("name", "index", "image", "rect", "height width", "url")


def test_imdb_face_takes_height_first_and_one_person_per_index(tmp_path: Path) -> None:
    row = ("Terence_Bernie_Hines", "nm0385722", "2.jpg", "143 246 608 719", "999 799")
    rows = [
        IMDB_HEADER,
        (*row, "https://example.org/1,2,3_AL_.jpg"),
        ("Kanchan", "nm0437156", "1.jpg", "0 0 10 10", "20 40", "https://example.org/k1.jpg"),
        (*row, "https://example.org/1,2,3_AL_.jpg"),
        ("Ilias_Kanchan", "nm0437156", "1.jpg", "30 0 45 10", "20 40", "https://example.org/k2.jpg"),
        ("Kanchan", "nm0437156", "2.jpg", "719 602 831 714", "528 700", "https://example.org/k3.jpg"),
        ("Kanchan", "nm0437156", "3.jpg", "0 0 10 10", "", "https://example.org/k4.jpg"),
    ]
    found = people(imdb_face_source(table(tmp_path / "IMDb-Face.csv", rows)))
    hines, kanchan = found["Terence_Bernie_Hines"], found["Kanchan"]
    assert len(found) == 2
    assert (hines.identity_id, hines.source) == (identity_id_of("nm0385722"), "imdb_face")
    assert hines.candidates[0].facts["listed_face"] == pytest.approx([143 / 799, 246 / 999, 608 / 799, 719 / 999])
    assert [outcome(c)[0] for c in hines.candidates] == ["to fetch", "duplicate_url"]
    assert kanchan.candidates[1].facts["listed_face"] == [0.75, 0.0, 1.0, 0.5]  # what hangs over is cut off
    assert [outcome(c)[1] for c in kanchan.candidates[2:]] == [
        "line 6: face: a box outside the image", "line 7: face: the size of its image is missing",
    ]  # fmt: skip


def test_imdb_face_of_another_shape_says_what_it_lacks(tmp_path: Path) -> None:
    path = table(tmp_path / "meta.csv", [("name", "index", "url"), ("a", "b", "c")])
    with pytest.raises(SourceError, match=r"no column 'rect' \(face.box\); .*it has: 'name', 'index', 'url'"):
        list(imdb_face_source(path).identities())
    recipe = load_recipe(PROJECT_ROOT / "pipelines" / "imdb_face.yaml")
    with pytest.raises(SourceError, match=r"source\.path: missing; pass --set source\.path=TABLE"):
        make_plan(recipe)


PEAK = """
import resource, sys
from pathlib import Path
from hifidata.sources.url_table.imdb_face import imdb_face_source
n = sum(len(task.candidates) for task in imdb_face_source(Path(sys.argv[1]), cache=Path(sys.argv[2])).identities())
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    def peak_mib(n_rows: int) -> int:
        rows = (
            (
                f"First{n % 997}",
                f"nm{n % 997:07d}",
                f"{n}.jpg",
                "143 246 608 719",
                "999 799",
                f"https://e.org/{n:0100d}",
            )
            for n in range(n_rows)
        )
        path = table(tmp_path / f"{n_rows}.csv", [IMDB_HEADER, *rows])
        done = subprocess.run(
            [sys.executable, "-c", PEAK, path, tmp_path / "cache"], capture_output=True, text=True, check=True
        )
        n_listed, mib = map(int, done.stdout.split())
        assert n_listed == n_rows
        return mib

    # The larger table has 19 times the rows and 30 MB more of text, which as Python objects would take over 100 MiB.
    assert peak_mib(200_000) < peak_mib(10_500) + 40
