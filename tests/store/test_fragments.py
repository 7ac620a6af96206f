"""Compaction of fragments into manifests."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hifidata.stages.table import IMAGE_COLUMNS
from hifidata.store import fragments as fragments_module
from hifidata.store.fragments import CommitRecord, compact, identity_row, read_rows, write_fragment


def fragment_of(folder: Path, number: int, n_candidates: int) -> Path:
    """Write the fragment of an identity whose images all failed; the first image has a thumbnail."""
    facts = {"identity_id": f"person{number}", "identity_name": f"Person {number}", "source": "folder"}
    rows = [
        facts | {"image_id": f"{number}-{i}", "status": "failed", "stage": "intake", "reason": "corrupt_image"}
        for i in range(n_candidates)
    ]
    path = folder / f"{number}.parquet"
    thumbnails = [b"jpeg", *[None] * (n_candidates - 1)][:n_candidates]
    write_fragment(
        path, rows, thumbnails, CommitRecord(identity_row(rows, facts), "fingerprint", "recipe"), IMAGE_COLUMNS
    )
    return path


@pytest.mark.parametrize(("images_per_group", "n_groups"), [(1, 4), (3, 2), (100, 1)])
def test_identities_share_row_groups_and_the_group_size_changes_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images_per_group: int, n_groups: int
) -> None:
    monkeypatch.setattr(fragments_module, "IMAGES_PER_ROW_GROUP", images_per_group)
    fragments = [fragment_of(tmp_path, number, n) for number, n in enumerate((1, 2, 0, 2, 1))]
    compact(fragments, tmp_path / "manifests", {}, IMAGE_COLUMNS)
    images = tmp_path / "manifests" / "images.parquet"
    assert pq.ParquetFile(images).num_row_groups == n_groups
    assert [row["image_id"] for row in read_rows(images)] == ["0-0", "1-0", "1-1", "3-0", "3-1", "4-0"]
    thumbnails = pq.read_table(tmp_path / "manifests" / "thumbnails.parquet").to_pydict()
    assert thumbnails == {"image_id": ["0-0", "1-0", "3-0", "4-0"], "jpeg": [b"jpeg"] * 4}


def test_a_dataset_without_images_has_empty_manifests(tmp_path: Path) -> None:
    compact([], tmp_path / "manifests", {}, IMAGE_COLUMNS)
    assert read_rows(tmp_path / "manifests" / "images.parquet") == []
