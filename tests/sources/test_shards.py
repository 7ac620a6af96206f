"""The shards source reads our own datasets and any WebDataset of pictures with json."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
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


def listed(tmp_path: Path, members: list[tuple[str, bytes]]) -> dict[str, list[tuple[str, str]]]:
    """List one tar. Return name and problem of each image by identity."""
    write_tar(tmp_path / "0.tar", members)
    tasks = ShardsSource(str(tmp_path), "person").identities()
    return {
        task.identity_name: [
            (c.relative_path.removeprefix("0.tar::"), c.facts.get("message", "")) for c in task.candidates
        ]
        for task in tasks
    }


def facts(person: object = "ann") -> bytes:
    return json.dumps({"person": person}).encode()


@pytest.mark.parametrize(("members", "images"), [
    (["22.05.jpg", "22.05.json", "22.06.jpg", "22.06.json"], ["22.05.jpg", "22.06.jpg"]),
    ([f"{n}.{suffix}" for n, s in enumerate(("jfif", "tiff", "HEIC", "jxl", "JPG")) for suffix in (s, "json")],
     ["0.jfif", "1.tiff", "2.HEIC", "3.jxl", "4.JPG"]),
    (["a.jpg", "a.png", "a.json", "b.0.jpg", "b.1.jpg", "b.json"], ["a.jpg", "a.png", "b.0.jpg", "b.1.jpg"]),
    (["a.jpg", "b.jpg", "a.json", "b.json"], ["a.jpg", "b.jpg"]),
    (["a.json", "b.json", "b.jpg", "a.jpg"], ["b.jpg", "a.jpg"]),
    (["./._a.jpg", "./a.jpg", "./._a.json", "./a.json"], ["./a.jpg"]),
    (["a.jpg", "a.jpg.json"], ["a.jpg"]),
    (["x/a.jpg", "x/a.json", "y/a.jpg", "y/a.json"], ["x/a.jpg", "y/a.jpg"]),
    (["a.jpg", "a.json", "a.jpg", "a.json"], ["a.jpg", "a.jpg#2"]),
    (["0123456789abcdef_0000.alpha.png", "0123456789abcdef_0000.jpg", "0123456789abcdef_0000.json"],
     ["0123456789abcdef_0000.jpg"]),
], ids=["dots", "suffixes", "several images", "images first", "json first", "AppleDouble", "json of the file name", "folders",
        "repeated names", "our mattes"])  # fmt: skip
def test_every_image_of_a_tar_is_a_candidate(tmp_path: Path, members: list[str], images: list[str]) -> None:
    found = listed(tmp_path, [(name, facts() if name.endswith(".json") else b"x") for name in members])
    assert found == {"ann": [(name, "") for name in images]}


def test_an_image_without_a_suffix_of_images_is_told_by_its_content(tmp_path: Path) -> None:
    jpeg = b"\xff\xd8\xff\xe0"
    found = listed(tmp_path, [("a.img", jpeg), ("a.json", facts()), ("b", jpeg), ("b.json", facts()), ("b.npy", b"x")])
    assert found == {"ann": [("a.img", ""), ("b", "")]}


@pytest.mark.parametrize(("data", "problem"), [
    (None, "no json has its name"), (b'{"person": ', "cannot be read as JSON"), (b"[" * 100_000, "cannot be read as JSON"),
    (b'{"person": ' + b"9" * 10_000 + b"}", "cannot be read as JSON"), (b'{"person": "\\ud800"}', "lone surrogate"),
    (facts("x" * 600_000), "a text of 600000 characters"), (facts(""), "no usable 'person' in its json; it has: person"),
    (facts(["ann"]), "no usable 'person'"), (b'{"' + b"k" * 9000 + b'": 1}', "no usable 'person'"), (b"[]", "it has: nothing"),
    (b" " * 2**21, "at most 1048576 are read"), (b"\xff\xfe\xff", "cannot be read as JSON"),
])  # fmt: skip
def test_a_bad_sample_is_one_bad_row(tmp_path: Path, data: bytes | None, problem: str) -> None:
    bad = [("b.json", data)] if data is not None else []
    found = listed(tmp_path, [("a.jpg", b"x"), ("a.json", facts()), ("b.jpg", b"x"), *bad])
    assert found["ann"] == [("a.jpg", "")]
    ((name, message),) = found["(no identity)"]
    assert name == "b.jpg"
    assert problem in message
    assert len(message) < 1000


def test_columns_of_a_json_are_bounded_text(tmp_path: Path) -> None:
    odd = {"licence": "\ud800", "landing_page_uri": "u" * 10_000, "fetched_at": "x" * 2000, "http_status": 10**30}
    write_tar(tmp_path / "0.tar", [("a.jpg", b"x"), ("a.json", json.dumps({"person": "ann"} | odd).encode())])
    (task,) = ShardsSource(str(tmp_path), "person").identities()
    assert task.candidates[0].facts == {}


def test_links_in_a_tar_are_followed_or_bad_rows(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", [("x/a.jpg", b"A"), ("x/a.json", facts())])
    with tarfile.open(path, "a") as tar:
        for name, kind, target in (
            ("x/hard.jpg", tarfile.LNKTYPE, "x/a.jpg"),
            ("x/soft.jpg", tarfile.SYMTYPE, "../x/a.jpg"),
            ("x/lost.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
            data = tarfile.TarInfo(name.replace("jpg", "json"))
            data.size = len(facts())
            tar.addfile(data, io.BytesIO(facts()))
    source = ShardsSource(str(tmp_path), "person")
    tasks = {task.identity_name: task for task in source.identities()}
    assert [source.read(c) for c in tasks["ann"].candidates] == [b"A"] * 3
    (lost,) = tasks["(no identity)"].candidates
    assert "not in the tar" in lost.facts["message"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-11_000],  # inside the last image
        lambda data: data + b"x" * 512,
        lambda data: data + data,  # joined tars
        lambda data: data.replace(b"b.json", b"c.json"),  # a header whose checksum is wrong
    ],
    ids=["cut", "rest", "joined", "header"],
)
def test_a_damaged_tar_is_a_bad_row_beside_its_readable_images(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = write_tar(tmp_path / "0.tar", [*sample("a", "ann", b"A"), *sample("b", "ann", b"B" * 9000)])
    path.write_bytes(damage(path.read_bytes()))
    source = ShardsSource(str(tmp_path), "person")
    tasks = {task.identity_name: task for task in source.identities()}
    assert source.read(tasks["ann"].candidates[0]) == b"A"
    assert [c.relative_path for c in tasks["(no identity)"].candidates][-1] == "0.tar"


def test_a_path_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "[set1]" / "0.tar", sample("a", "ann", b"A"))
    for place in (path, path.parent, path.with_name("*.tar")):
        (task,) = ShardsSource(str(place), "person").identities()
        assert len(task.candidates) == 1


def test_members_that_are_no_images_are_counted_by_kind_in_one_line(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "0.tar",
        [*sample("1", "ann", b"A"), *sample("2", "ann", b"B"), ("2.Odd name!", b"x"), (".x.jpg", b"")],
    )
    (tmp_path / "1.tar.gz").write_bytes(b"")
    source = ShardsSource(str(tmp_path), "person")
    list(source.identities())
    assert source.notes == [
        "warning: source.path: compressed tars that were not read: 1; unpack them to .tar",
        "source.path: members of the tars that are no images: 6 (2 .json, 2 .txt, 1 hidden, 1 others)",
    ]


def test_captions_are_the_text_members_of_the_same_sample(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [*sample("1", "ann", b"A"), ("2.jpg", b"B"), ("2.json", facts())])
    for with_captions, expected in ((True, ["caption", None]), (False, [None, None])):
        source = ShardsSource(str(tmp_path), "person", with_captions=with_captions)
        (task,) = source.identities()
        assert [source.caption(c) for c in task.candidates] == expected


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
