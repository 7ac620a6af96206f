"""A picture that is judged by another one stands beside it, and is no larger than the rest where that one is not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from hifidata.report.html import render_report
from hifidata.report.manifests import Manifests
from hifidata.report.pairs import nearest_copies
from tests.report.synthetic_dataset import replace_column


def sheet_of(html: str, reason: str) -> str:
    return html.split(f'id="reason-{reason}"')[1].split("</article>")[0]


def give_hashes(folder: Path, hash_of_first: str, hash_of_others: str, distance_bits: int) -> list[dict[str, Any]]:
    """Gives every kept picture a hash, the first of each person another, and a distance to it; returns those rows."""
    path = folder / "manifests" / "images.parquet"
    rows = pq.read_table(path).to_pylist()
    people: set[str] = set()
    for row in (row for row in rows if row["status"] == "kept"):
        is_first = row["identity_id"] not in people
        people.add(row["identity_id"])
        row["phash"] = hash_of_first if is_first else hash_of_others
        row["duplicate_distance_bits"] = None if is_first else distance_bits
    for column in ("phash", "duplicate_distance_bits"):
        replace_column(path, column, [row[column] for row in rows])
    return [row for row in rows if row["status"] == "kept"]


def test_a_picture_that_passed_stands_beside_the_one_it_is_nearest_to(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    rows = give_hashes(folder, "00000000000000ff", "0" * 16, 8)
    first, second, *_ = (row for row in rows if row["identity_id"] == rows[0]["identity_id"])
    assert nearest_copies(Manifests(folder), [second]) == {second["image_id"]: first["image_id"]}
    passed = sheet_of(render_report(folder, run), "near_duplicate").split("<b>Passed</b>")[1]
    assert passed.count('class="beside"') == passed.count("<figure") == 10


def test_pictures_that_passed_have_the_usual_size_where_nobody_knows_the_other(
    dataset: tuple[Path, dict[str, Any]],
) -> None:
    folder, run = dataset
    rows = give_hashes(folder, "f" * 16, "0" * 16, 8)
    assert nearest_copies(Manifests(folder), [row for row in rows if row["duplicate_distance_bits"]]) == {}
    dropped, passed = sheet_of(render_report(folder, run), "near_duplicate").split("<b>Passed</b>")
    assert 'class="pictures pairs"' in dropped
    assert 'class="pictures"' in passed
