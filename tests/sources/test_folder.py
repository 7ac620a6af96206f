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
    for name in ("bob/2.jpg", "bob/1.odd", "bob/album/3", "ann/x.webp", "empty/.keep"):
        put(tmp_path / name)
    tasks = list(FolderSource(tmp_path).identities())
    assert [task.identity_name for task in tasks] == ["ann", "bob", "empty"]
    assert [c.relative_path for c in tasks[1].candidates] == ["1.odd", "2.jpg", "album/3"]
    assert tasks[1].candidates[1].source_uri.endswith("bob/2.jpg")
    assert tasks[2].candidates == ()


def paths_of(source: FolderSource) -> dict[str, list[str]]:
    return {task.identity_name: [c.relative_path for c in task.candidates] for task in source.identities()}


def test_links_are_followed_and_a_link_to_nothing_is_a_candidate(tmp_path: Path) -> None:
    photo = put(tmp_path / "elsewhere/1.jpg")
    put(tmp_path / "photos/ann/2.jpg")
    (tmp_path / "photos/ann/1.jpg").symlink_to(photo)
    (tmp_path / "photos/ann/lost.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "photos/bob").symlink_to(photo.parent)
    source = FolderSource(tmp_path / "photos")
    assert paths_of(source) == {"ann": ["1.jpg", "2.jpg", "lost.jpg"], "bob": ["1.jpg"]}
    first, *_, lost = next(source.identities()).candidates
    assert source.read(first) == b"x"
    with pytest.raises(IntakeError, match="No such file"):
        source.read(lost)


def test_links_in_circles_end(tmp_path: Path) -> None:
    put(tmp_path / "photos/ann/1.jpg")
    for link, target in (("ann/self", "photos/ann"), ("ann/up", "."), ("root", "photos"), ("ann/x", "photos/ann/x")):
        (tmp_path / "photos" / link).symlink_to(tmp_path / target)
    for n in range(40):  # without care, 2 ** 40 ways through these links
        (tmp_path / f"photos/ann/maze{n}").mkdir()
        for side in "ab":
            (tmp_path / f"photos/ann/maze{n}/{side}").symlink_to(tmp_path / f"photos/ann/maze{(n + 1) % 40}")
    assert paths_of(FolderSource(tmp_path / "photos")) == {"ann": ["1.jpg", "x"]}


def test_images_above_the_people_are_failed_rows(tmp_path: Path) -> None:
    for name in ("ann/1.jpg", "loose.jpg", "notes.txt", "labels.odd"):
        put(tmp_path / name)
    put(tmp_path / "no_suffix", b"\xff\xd8\xff\xe0")
    source = FolderSource(tmp_path)
    *_, loose = source.identities()
    assert [c.relative_path for c in loose.candidates] == ["loose.jpg", "no_suffix"]
    assert {(c.facts["status"], c.facts["reason"]) for c in loose.candidates} == {("failed", "no_person_folder")}
    warning, left_out = source.notes
    assert "images in no folder of a person: 2; they fail" in warning
    assert left_out.endswith("files left out because they are no images: 2 (1 .odd, 1 .txt)")


def test_companions_are_counted_unless_they_are_images(tmp_path: Path) -> None:
    names = (
        "1.jpg.supplemental-metadata.json",
        "1.txt",
        "1.caption",
        "1.npz",
        "1.XMP",
        "1.MP4",
        "1.mov",
        "Thumbs.db",
        ".x.jpg",
    )
    for name in names:
        put(tmp_path / "ann" / name)
    put(tmp_path / "ann/really_a_photo.txt", b"\x89PNG\r\n\x1a\n")
    put(tmp_path / "ann/1.jpg")
    os.mkfifo(tmp_path / "ann/pipe.jpg")
    source = FolderSource(tmp_path)
    assert paths_of(source) == {"ann": ["1.jpg", "really_a_photo.txt"]}
    (note,) = source.notes
    assert note.startswith("source.path: files left out because they are no images: 10 (2 hidden, 1 .caption, 1 .json")


def test_folders_one_level_too_deep_are_noticed_and_depth_finds_them(tmp_path: Path) -> None:
    for name in ("train/n1/1.jpg", "train/n2/1.jpg", "test/n3/a/1.jpg", "test/n1/1.jpg", "train/loose.jpg"):
        put(tmp_path / name)
    shallow = FolderSource(tmp_path)
    assert paths_of(shallow)["test"] == ["n1/1.jpg", "n3/a/1.jpg"]
    assert "1 of 2 folders hold no images themselves, but 2 folders of images" in shallow.notes[0]
    assert "--set source.depth=2" in shallow.notes[0]
    deep = FolderSource(tmp_path, depth=2)
    assert paths_of(deep) == {
        "n1": ["test/1.jpg", "train/1.jpg"], "n2": ["train/1.jpg"], "n3": ["test/a/1.jpg"], "(no identity)": ["train/loose.jpg"],
    }  # fmt: skip
    assert any("people with several folders of the same name: 1; each is one person" in note for note in deep.notes)


def test_captions_beside_images_are_read_and_part_of_the_version(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.png", "3.jpg", "4.jpg"):
        put(tmp_path / "ann" / name)
    put(tmp_path / "ann/1.txt", b"\xef\xbb\xbfa woman")
    put(tmp_path / "ann/2.png.caption", b"x" * 100_000)
    put(tmp_path / "ann/3.txt", b"\xff\xfe")
    plain, source = FolderSource(tmp_path), FolderSource(tmp_path, with_captions=True)
    (task,) = source.identities()
    assert [source.caption(c) for c in task.candidates] == ["a woman", None, None, None]
    (before,) = plain.identities()
    put(tmp_path / "ann/1.txt", b"a man")
    assert next(plain.identities()).fingerprint == before.fingerprint
    assert next(source.identities()).fingerprint != task.fingerprint


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
    (lambda root: put(root / "loose.jpg"), "no sub-folder, but 1 photos"),
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
