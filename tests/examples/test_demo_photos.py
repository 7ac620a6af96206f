"""The demo's photos: deterministic bytes, variety, and the expected verdict of every file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from examples.demo import photos as demo
from hifidata.core.errors import SourceError
from tests.conftest import PROJECT_ROOT

MAX_BYTES = 25_000_000


def _python(*arguments: str | Path) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_command_prints_the_folder_and_another_process_writes_the_same_bytes(demo_photos: Path, tmp_path: Path) -> None:
    assert _python("-m", "examples.demo.photos", tmp_path / "again").splitlines() == [str(tmp_path / "again")]
    assert _files(tmp_path / "again") == _files(demo_photos)


def test_a_second_build_rewrites_only_wrong_files(
    demo_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "PHOTOS", demo.PHOTOS[:3])
    built = [demo.build_demo_photos(tmp_path) / photo.path for photo in demo.PHOTOS]
    for path in built:
        os.utime(path, (1, 1))
    built[1].write_bytes(b"half a file")
    demo.build_demo_photos(tmp_path)
    assert [path.stat().st_mtime == 1 for path in built] == [True, False, True]
    assert built[1].read_bytes() == (demo_photos / demo.PHOTOS[1].path).read_bytes()


def test_expected_names_every_file_and_no_other(demo_photos: Path) -> None:
    files = _files(demo_photos)
    assert files.keys() == demo.EXPECTED.keys()
    assert len(demo.PHOTOS) == len(demo.EXPECTED), "two photos share a name"
    assert sum(map(len, files.values())) <= MAX_BYTES


def test_most_identities_have_enough_kept_photos_and_every_stage_drops_images() -> None:
    kept = Counter(path.split("/")[0] for path, end in demo.EXPECTED.items() if end == "kept")
    assert sum(count >= 5 for count in kept.values()) >= 5
    assert set(demo.PEOPLE) - set(kept) == {"Guest_5"}, "one identity has too few good photos"
    assert {
        "format_not_allowed", "not_image", "too_small", "truncated", "duplicate_bytes",
        "no_face", "several_faces", "face_cut_off", "face_share_too_low", "crop_too_small",
        "low_quality", "text_on_face", "near_duplicate", "other_person", "identity_too_small",
    } <= set(demo.EXPECTED.values())  # fmt: skip


def test_files_match_their_names(demo_photos: Path) -> None:
    files = _files(demo_photos)
    assert files["Eileen_Collins/portrait_png_named.jpg"].startswith(b"\x89PNG")
    assert files["Guest_4/tiff_named.jpg"][:2] in (b"II", b"MM")
    assert files["Guest_2/web_page_named.jpg"].startswith(b"<!DOCTYPE html>")
    assert files["Eileen_Collins/same_bytes_as_portrait_01.jpg"] == files["Eileen_Collins/portrait_01.jpg"]
    assert files["Guest_2/portrait_16_bit.png"][24] == 16, "bit depth in the PNG header"
    with Image.open(demo_photos / "Guest_1/portrait_cmyk.jpg") as image:
        assert image.mode == "CMYK"
    with Image.open(demo_photos / "Guest_3/truncated.jpg") as image, pytest.raises(OSError, match="truncated"):
        image.load()


def test_the_phone_photo_is_rotated_and_has_gps_data(demo_photos: Path) -> None:
    with Image.open(demo_photos / "Eileen_Collins/portrait_from_phone.jpg") as image:
        assert image.width > image.height
        assert image.getexif()[ExifTags.Base.Orientation] == 6
        assert image.getexif().get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"


def test_a_missing_package_is_reported_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> None:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(demo, "distribution", missing)
    with pytest.raises(SourceError, match=r"scikit-image contains it: pip install 'hifi-portrait\[demo\]'"):
        demo.build_demo_photos(tmp_path / "photos")
    assert not (tmp_path / "photos").exists()
