"""An image is shown beside its comparison image, and without one it has the normal size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from hifidata.report.comparisons import nearest_copies
from hifidata.report.html import render_report
from hifidata.report.manifests import Manifests
from tests.report.synthetic_dataset import replace_column


def sheet_of(html: str, reason: str) -> str:
    return html.split(f'id="reason-{reason}"')[1].split("</article>")[0]


def give_hashes(folder: Path, hash_of_first: str, hash_of_others: str, distance_bits: int) -> list[dict[str, Any]]:
    """Give all kept images a hash and a distance to the first of their identity, which gets another hash; returns the rows."""
    path = folder / "manifests" / "images.parquet"
    rows = pq.read_table(path).to_pylist()
    seen: set[str] = set()
    for row in (row for row in rows if row["status"] == "kept"):
        is_first = row["identity_id"] not in seen
        seen.add(row["identity_id"])
        row["phash"] = hash_of_first if is_first else hash_of_others
        row["duplicate_distance_bits"] = None if is_first else distance_bits
    for column in ("phash", "duplicate_distance_bits"):
        replace_column(path, column, [row[column] for row in rows])
    return [row for row in rows if row["status"] == "kept"]


def test_a_passed_image_is_shown_beside_its_nearest_copy(dataset: tuple[Path, dict[str, Any]]) -> None:
    folder, run = dataset
    rows = give_hashes(folder, "00000000000000ff", "0" * 16, 8)
    first, second, *_ = (row for row in rows if row["identity_id"] == rows[0]["identity_id"])
    assert nearest_copies(Manifests(folder), [second]) == {second["image_id"]: first["image_id"]}
    passed = sheet_of(render_report(folder, run), "near_duplicate").split("<b>Passed</b>")[1]
    assert passed.count('class="beside"') == passed.count("<figure") == 10


def test_passed_images_have_the_normal_size_without_a_known_copy(
    dataset: tuple[Path, dict[str, Any]],
) -> None:
    folder, run = dataset
    rows = give_hashes(folder, "f" * 16, "0" * 16, 8)
    assert nearest_copies(Manifests(folder), [row for row in rows if row["duplicate_distance_bits"]]) == {}
    dropped, passed = sheet_of(render_report(folder, run), "near_duplicate").split("<b>Passed</b>")
    assert 'class="images pairs"' in dropped
    assert 'class="images"' in passed
