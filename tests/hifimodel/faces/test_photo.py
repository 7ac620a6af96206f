"""From a photo to what the nets see of it, on real photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hifidata.image.align import TEMPLATE_PX
from hifidata.image.decode import Limits, decode
from hifidata.models.matting.selfie import SelfieMatting
from hifidata.models.protocols import FaceDetector, Faces
from hifimodel.errors import PhotoError
from hifimodel.faces.photo import (
    Preparation,
    prepare_reference,
    prepare_target,
    read_photo,
)
from tests.factories.photos import Portrait

MATTING_FILE = "selfiesegmentation_mlkit-256x256-2021_01_19-v1215.f16.tflite"


@pytest.fixture(scope="module")
def matting(weights: Path) -> SelfieMatting:
    return SelfieMatting(weights / "matting" / MATTING_FILE)


def test_the_aligned_face_has_its_points_where_recognisers_expect_them(
    portraits: Sequence[Portrait], scrfd: FaceDetector
) -> None:
    found = []
    for photo in portraits[::3]:
        aligned = prepare_reference(photo.name, photo.rgb_u8, scrfd).aligned_rgb_u8
        assert aligned.shape == (112, 112, 3)
        faces = scrfd.detect([aligned])[0]
        if len(faces.scores):
            found.append(np.linalg.norm(faces.kps_px[0] - TEMPLATE_PX, axis=1).mean())
    assert len(found) >= 6
    assert np.median(found) < 3


def test_matting_keeps_the_face_and_whitens_the_background_that_clip_sees(
    portraits: Sequence[Portrait], scrfd: FaceDetector, matting: SelfieMatting
) -> None:
    for photo in portraits[:6]:
        plain = prepare_reference(photo.name, photo.rgb_u8, scrfd)
        matted = prepare_reference(
            photo.name, photo.rgb_u8, scrfd, Preparation(alpha=lambda rgb_u8: matting.matte([rgb_u8])[0])
        )
        assert matted.is_matted
        assert not plain.is_matted
        changed = np.abs(matted.clip_rgb_u8.astype(int) - plain.clip_rgb_u8).mean(axis=2)
        assert changed[84:140, 84:140].mean() < 5
        assert (matted.clip_rgb_u8 == 255).all(axis=2).mean() > 0.05


def test_a_matte_that_loses_the_face_is_not_used(portraits: Sequence[Portrait], scrfd: FaceDetector) -> None:
    photo = portraits[0]
    lost = prepare_reference(
        photo.name, photo.rgb_u8, scrfd, Preparation(alpha=lambda rgb: rgb[:, :, 0] * np.float32(0))
    )
    assert not lost.is_matted
    assert np.array_equal(lost.clip_rgb_u8, prepare_reference(photo.name, photo.rgb_u8, scrfd).clip_rgb_u8)


def test_the_highest_scoring_face_of_a_reference_is_taken_not_the_largest() -> None:
    class Two:
        name = "two"

        def detect(self, pictures: object) -> list[Faces]:
            boxes = np.float32([[0, 0, 60, 60], [70, 70, 90, 90]])
            kps = np.stack([TEMPLATE_PX / 2, TEMPLATE_PX / 5 + 70])
            return [Faces(boxes, np.float32([0.6, 0.9]), kps, None)]

    picture = np.zeros((100, 100, 3), np.uint8)
    assert prepare_reference("a.jpg", picture, Two()).face.xyxy_px.tolist() == [70, 70, 90, 90]
    assert prepare_target("a.jpg", picture, Two()).score == pytest.approx(0.6)  # a ninth of the main face's area
    with pytest.raises(PhotoError, match=r"target a\.jpg: two finds 2 faces that count, expected 1; crop"):
        prepare_target("a.jpg", picture, Two(), Preparation(other_face_min_area_ratio=0.0))


@pytest.mark.parametrize("name", ["ramp.png", "ramp.tif"])
def test_16_bit_grey_is_scaled_as_for_a_dataset_not_clipped_to_white(name: str, tmp_path: Path) -> None:
    ramp = np.arange(0, 65536, 4, dtype=np.uint16).reshape(128, 128)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    Image.fromarray(ramp).save(tmp_path / name)
    expected = decode((tmp_path / "ramp.png").read_bytes(), Limits()).rgb_u8
    np.testing.assert_array_equal(read_photo(tmp_path / name), expected)
    assert np.abs(expected[:, :, 0] - ramp / 257).max() <= 0.5


def test_photos_that_cannot_be_used_are_named(assets: Path, scrfd: FaceDetector, tmp_path: Path) -> None:
    no_face = sorted((assets / "edge" / "no-face").iterdir())[0]
    two = assets / "faces" / "face_recognition" / "examples__two_people.jpg"
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff not a jpeg")
    for fails, message in (
        (
            lambda: prepare_reference(no_face.name, np.zeros((90, 90, 3), np.uint8), scrfd),
            f"reference {no_face.name}.*no face",
        ),
        (lambda: prepare_target("t.jpg", np.zeros((90, 90, 3), np.uint8), scrfd), r"target t\.jpg: .*no face"),
        (lambda: prepare_target(two.name, read_photo(two), scrfd), "2 faces that count, expected 1; crop it"),
        (lambda: read_photo(broken), r"broken\.jpg: not a readable image"),
        (lambda: read_photo(tmp_path / "none.jpg"), "no such file"),
    ):
        with pytest.raises(PhotoError, match=message) as caught:
            fails()
        assert "\n" not in str(caught.value)
