"""The shards source reads our own datasets and any WebDataset of pictures with json."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from hifidata.core.errors import SourceError
from hifidata.sources.shards import ShardsSource


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample(key: str, person: str, picture: bytes, suffix: str = "jpg") -> list[tuple[str, bytes]]:
    facts = json.dumps({"person": person, "licence": "CC0-1.0"}).encode()
    return [(f"{key}.{suffix}", picture), (f"{key}.json", facts), (f"{key}.txt", b"caption")]


def test_samples_are_grouped_by_the_field_across_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "a/0.tar", sample("1", "ann", b"A1") + sample("2", "bob", b"B1", "png"))
    write_tar(tmp_path / "b/0.tar", sample("x/1", "ann", b"A2"))
    source = ShardsSource(str(tmp_path), "person")
    people = {task.identity_name: task for task in source.identities()}
    assert {name: [source.read(c) for c in task.candidates] for name, task in people.items()} == {
        "ann": [b"A1", b"A2"], "bob": [b"B1"],
    }  # fmt: skip
    assert people["ann"].candidates[0].facts == {"licence": "CC0-1.0"}
    assert len({c.relative_path for c in people["ann"].candidates}) == 2


def test_facts_of_another_type_are_left_out_and_ids_of_ours_stay(tmp_path: Path) -> None:
    facts = {"person": "0123456789abcdef", "licence": {"name": "x"}, "http_status": "200 OK", "fetched_at": "2026"}
    write_tar(tmp_path / "0.tar", [("1.jpg", b"x"), ("1.json", json.dumps(facts).encode())])
    (task,) = ShardsSource(str(tmp_path), "person").identities()
    assert task.candidates[0].facts == {"fetched_at": "2026"}
    assert task.identity_id == "0123456789abcdef"


def test_a_pipe_called_tar_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.tar")
    with pytest.raises(SourceError, match="no tar found"):
        list(ShardsSource(str(tmp_path), "person").identities())


def test_what_is_no_dataset_of_people_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no tar found"):
        list(ShardsSource(str(tmp_path), "person").identities())
    (tmp_path / "broken.tar").write_bytes(b"not a tar at all" * 100)
    with pytest.raises(SourceError, match="not a readable tar"):
        list(ShardsSource(str(tmp_path), "person").identities())


def test_a_missing_identity_field_lists_the_fields_there_are(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", sample("1", "ann", b"A1"))
    with pytest.raises(SourceError, match=r"no usable 'who' in its json; it has: licence, person"):
        list(ShardsSource(str(tmp_path), "who").identities())
