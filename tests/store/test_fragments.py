"""Compaction of fragments into manifests."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hifidata.core.errors import DatasetError
from hifidata.stages.table import IMAGE_COLUMNS
from hifidata.store import fragments as fragments_module
from hifidata.store.fragments import (
    RECORD_KEY,
    SEALED_RECORD_KEY,
    CommitRecord,
    compact,
    identity_row,
    read_record,
    read_rows,
    read_table,
    write_fragment,
)


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


def flips(data: bytes, rng: random.Random) -> Iterator[tuple[int, int]]:
    """Yield (byte, bit): of the rows, of the footer and of each byte of its end."""
    start, end = len(data) - 8 - int.from_bytes(data[-8:-4], "little"), len(data)
    drawn = [rng.randrange(*bounds) for bounds in ((start,), (start, end)) for _ in range(40)]
    for place in (*drawn, *range(end - 12, end), *range(12)):
        yield place, rng.randrange(8)


def test_a_flipped_bit_of_a_fragment_is_an_error_or_changes_nothing(tmp_path: Path) -> None:
    path = fragment_of(tmp_path, 1, 3)
    data, record, table = path.read_bytes(), read_record(path), read_table(path)
    wrong = []
    for place, bit in flips(data, random.Random(0)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        for read, whole in ((read_record, record), (read_table, table)):
            with suppress(DatasetError):
                if read(path) != whole:
                    wrong.append((place, bit))
    assert wrong == []


def test_a_fragment_of_an_earlier_version_without_a_seal_is_read(tmp_path: Path) -> None:
    path = fragment_of(tmp_path, 1, 1)
    record, table = read_record(path), read_table(path)
    pq.write_table(table.replace_schema_metadata({RECORD_KEY: json.dumps(asdict(record))}), path)
    assert read_record(path) == record
    pq.write_table(table.replace_schema_metadata({SEALED_RECORD_KEY: json.dumps(asdict(record))}), path)
    with pytest.raises(DatasetError, match="delete it and run again"):
        read_record(path)
