"""The folder source lists what a person would call their photos, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hifidata.core.errors import IntakeError, SourceError
from hifidata.sources.folder import FolderSource


def put(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_one_task_per_subfolder_with_every_file_whatever_its_extension(tmp_path: Path) -> None:
    for name in ("bob/2.jpg", "bob/1.txt", "bob/album/3", "ann/x.webp", "empty/.keep"):
        put(tmp_path / name)
    tasks = list(FolderSource(tmp_path).identities())
    assert [task.identity_name for task in tasks] == ["ann", "bob", "empty"]
    assert [c.relative_path for c in tasks[1].candidates] == ["1.txt", "2.jpg", "album/3"]
    assert tasks[1].candidates[1].source_uri.endswith("bob/2.jpg")
    assert tasks[2].candidates == ()


def test_file_manager_litter_and_links_leading_out_are_left_alone(tmp_path: Path) -> None:
    put(tmp_path / "secret.jpg")
    put(tmp_path / "photos/ann/1.jpg")
    for litter in ("Thumbs.db", ".DS_Store", "._1.jpg"):
        put(tmp_path / "photos/ann" / litter)
    (tmp_path / "photos/ann/out.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "photos/ann/dangling.jpg").symlink_to(tmp_path / "nowhere")
    (task,) = FolderSource(tmp_path / "photos").identities()
    assert [c.relative_path for c in task.candidates] == ["1.jpg"]


def test_ids_do_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    from hifidata.core.schema import image_id_of

    ids = []
    for place in ("here", "there/deep"):
        put(tmp_path / place / "ann/1.jpg")
        (task,) = FolderSource(tmp_path / place).identities()
        ids.append((task.identity_id, image_id_of(task.identity_id, task.candidates[0].relative_path)))
    assert ids[0] == ids[1]


def test_the_fingerprint_notices_added_removed_and_changed_files(tmp_path: Path) -> None:
    def fingerprint() -> str:
        (task,) = FolderSource(tmp_path).identities()
        return task.fingerprint

    first = put(tmp_path / "ann/1.jpg")
    before = fingerprint()
    assert fingerprint() == before
    added = put(tmp_path / "ann/2.jpg")
    assert fingerprint() != before
    added.unlink()
    assert fingerprint() == before
    first.write_bytes(b"yy")
    assert fingerprint() != before


def test_names_that_are_not_utf8_are_listed_and_read(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.mkdir(folder)
    with open(folder + b"/\xfa.jpg", "wb") as file:
        file.write(b"data")
    (task,) = FolderSource(tmp_path).identities()
    task.identity_name.encode()  # would raise on a lone surrogate
    assert FolderSource(tmp_path).read(task.candidates[0]) == b"data"


def test_a_name_of_other_bytes_never_becomes_another_name(tmp_path: Path) -> None:
    for name in (b"bad\xff", b"bad\\xff"):
        os.makedirs(os.fsencode(tmp_path) + b"/" + name)
        with open(os.fsencode(tmp_path) + b"/" + name + b"/1.jpg", "wb") as file:
            file.write(b"x")
    assert len({task.identity_id for task in FolderSource(tmp_path).identities()}) == 2


@pytest.mark.parametrize(("make", "message"), [
    (lambda root: None, "no such folder"),
    (lambda root: root.mkdir(), "no sub-folder"),
    (lambda root: put(root / "loose.jpg"), "no sub-folder"),
    (lambda root: (root / "ann").mkdir(parents=True), "contain no files"),
])  # fmt: skip
def test_a_source_without_photos_says_what_it_expects(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "photos")  # type: ignore[operator]
    with pytest.raises(SourceError, match=message):
        list(FolderSource(tmp_path / "photos").identities())


def test_a_file_that_vanishes_or_is_too_large_is_a_typed_reason(tmp_path: Path) -> None:
    path = put(tmp_path / "ann/1.jpg", b"x" * 100)
    source = FolderSource(tmp_path, max_bytes=50)
    (task,) = source.identities()
    with pytest.raises(IntakeError) as caught:
        source.read(task.candidates[0])
    assert caught.value.reason == "too_many_bytes"
    path.unlink()
    with pytest.raises(IntakeError) as caught:
        source.read(task.candidates[0])
    assert caught.value.reason == "unreadable_file"
