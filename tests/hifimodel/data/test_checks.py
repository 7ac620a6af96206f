"""Shards of a dataset are compared with dataset.json before they are trained on, each once."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from hifidata.core.files import file_sha256
from hifidata.store.shards import write_shard
from hifimodel.data import Loader, checks, describe_shards
from hifimodel.errors import DataError
from tests.factories.training_shards import paint, person, person_id, quick

N_PEOPLE = 4


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for number in range(N_PEOPLE):
        write_shard(tmp_path / "shards" / "00" / f"{person_id(number)}.tar", person(number, 6))
    shards = [
        {"path": path.relative_to(tmp_path).as_posix(), "bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(tmp_path.rglob("*.tar"))
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"format_version": 1, "shards": shards}))
    return tmp_path


def people_of(loader: Loader) -> set[str]:
    return {key.partition("_")[0] for batch in loader for key in batch.keys + batch.reference_keys}


def test_a_shard_with_a_flipped_bit_is_skipped_counted_and_named(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, rng = dataset / "shards" / "00" / f"{person_id(1)}.tar", random.Random(0)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1
    path.write_bytes(data)
    loader = Loader(quick(dataset, max_bad_share=0.5), paint=paint)
    assert people_of(loader) == {person_id(number) for number in (0, 2, 3)}
    assert (loader.counts.damaged_shards, loader.counts.shards) == (1, N_PEOPLE)
    assert f"{path}: is skipped: its sha256 differs from dataset.json" in caplog.text
    describe_shards(quick(dataset))


def test_every_altered_shard_ends_the_run_with_the_remedy(dataset: Path) -> None:
    for path in dataset.rglob("*.tar"):
        path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"no usable image; read 4 shards \(4 damaged\).*run `hifidata check`"):
        describe_shards(quick(dataset))


def test_each_shard_is_read_for_its_sha256_once_in_three_epochs(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def counted(path: Path) -> str:
        hashed.append(path)
        return file_sha256(path)

    monkeypatch.setattr(checks, "file_sha256", counted)
    assert len(people_of(Loader(quick(dataset, epochs=3), paint=paint))) == N_PEOPLE
    assert sorted(hashed) == sorted(dataset.rglob("*.tar"))


def test_a_tar_that_dataset_json_does_not_list_is_refused(dataset: Path) -> None:
    write_shard(dataset / "shards" / "00" / "more.tar", person(9, 6))
    with pytest.raises(DataError, match=r"more\.tar: is not in .*dataset\.json; remove it"):
        Loader(quick(dataset), paint=paint)


def test_tars_without_dataset_json_and_those_beside_a_dataset_are_not_compared(dataset: Path) -> None:
    write_shard(dataset / "extra" / "9.tar", person(9, 6))
    assert people_of(Loader(quick(dataset / "extra"), paint=paint)) == {person_id(9)}
    (dataset / "dataset.json").unlink()
    next(dataset.rglob("*.tar")).touch()
    assert len(people_of(Loader(quick(dataset / "shards"), paint=paint))) == N_PEOPLE
