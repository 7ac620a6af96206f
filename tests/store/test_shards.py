"""Shards: webdataset reads back every member, and the bytes depend only on the samples."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds

from hifidata.core.files import file_sha256
from hifidata.store.shards import members_of, pack, unpack, write_shard

ANN, BOB = "a" * 16, "b" * 16
ROW = {
    "image_id": "1", "identity_id": ANN, "identity_name": "Ann Example", "source_uri": "/home/x/ann/1.jpg", "caption": "A photo.",
    "embedding": [0.6, 0.8], "portrait_landmarks": [1.0] * 136, "quality_score": 0.5,
}  # fmt: skip


def samples(identity_id: str, count: int) -> list[tuple[str, dict[str, bytes]]]:
    return [(f"{identity_id}_{i:04d}", {"jpg": b"\xff\xd8" + bytes(1000), "txt": b"t"}) for i in range(count)]


def test_the_same_samples_give_the_same_bytes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_shard(tmp_path / "1.tar", samples(ANN, 3))
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 3600)
    second = write_shard(tmp_path / "2.tar", reversed([*reversed(samples(ANN, 3))]))
    assert first == second
    assert first.sha256 == file_sha256(tmp_path / "1.tar")
    assert first.n_bytes == (tmp_path / "1.tar").stat().st_size


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset leaves its file to the garbage collector
def test_webdataset_reads_back_every_member(tmp_path: Path) -> None:
    write_shard(tmp_path / "1.tar", [(f"{ANN}_0000", members_of(ROW, b"\xff\xd8jpeg"))])
    (sample,) = wds.WebDataset(str(tmp_path / "1.tar"), shardshuffle=False)
    assert sample["__key__"] == f"{ANN}_0000"
    assert sample["jpg"] == b"\xff\xd8jpeg"
    assert sample["txt"] == b"A photo."
    embedding = np.load(io.BytesIO(sample["embedding.npy"]))
    landmarks = np.load(io.BytesIO(sample["landmarks.npy"]))
    assert embedding.dtype == landmarks.dtype == np.float32
    assert landmarks.shape == (68, 2)
    facts = json.loads(sample["json"])
    assert facts["format_version"] == 1
    assert facts["quality_score"] == 0.5


def test_a_shard_contains_no_name_and_no_path(tmp_path: Path) -> None:
    write_shard(tmp_path / "1.tar", [(f"{ANN}_0000", members_of(ROW, b"jpeg"))])
    data = (tmp_path / "1.tar").read_bytes()
    assert b"Ann Example" not in data
    assert b"/home/x" not in data


@pytest.mark.parametrize("keys", [["a.b_0000"], ["../x_0000"], [f"{ANN}_0000", f"{ANN}_0000"], [f"{ANN}_0"]])
def test_a_key_that_webdataset_would_split_or_merge_is_refused(tmp_path: Path, keys: list[str]) -> None:
    with pytest.raises(ValueError, match="malformed or repeated"):
        write_shard(tmp_path / "1.tar", [(key, {"jpg": b""}) for key in keys])
    assert list(tmp_path.iterdir()) == []


def test_packs_hold_whole_identities_and_unpack_to_the_same_bytes(tmp_path: Path) -> None:
    own = {identity_id: tmp_path / f"{identity_id}.tar" for identity_id in (ANN, BOB, "c" * 16)}
    before = {identity_id: write_shard(path, samples(identity_id, 5)).sha256 for identity_id, path in own.items()}
    size = own[ANN].stat().st_size
    placed = pack(list(own.values()), tmp_path / "packs", max_bytes=2 * size)
    assert [path.name for path in sorted((tmp_path / "packs").iterdir())] == ["pack-000000.tar", "pack-000001.tar"]
    assert placed[own[ANN]] == placed[own[BOB]]
    for path in own.values():
        path.unlink()
    unpack(sorted((tmp_path / "packs").iterdir()), own)
    assert {identity_id: file_sha256(path) for identity_id, path in own.items()} == before
