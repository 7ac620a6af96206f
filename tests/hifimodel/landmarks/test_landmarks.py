"""Encode, swap, project: whose shape, whose expression, and where it lands in the picture."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hifidata.core.errors import WeightsError
from hifidata.models.detect.dlib import kps_from_landmarks
from hifidata.models.protocols import F32
from hifimodel.landmarks import FaceShape, LandmarkBackend, LandmarkError, load_backend
from tests.factories.photos import Portrait


@pytest.fixture(scope="module")
def tddfa(weights: Path) -> LandmarkBackend:
    return load_backend("tddfa", weights / "3ddfa")


@pytest.fixture(scope="module")
def points() -> LandmarkBackend:
    return load_backend("points")


@pytest.fixture(scope="module")
def fitted(tddfa: LandmarkBackend, portraits: Sequence[Portrait]) -> list[FaceShape]:
    return [tddfa.encode(photo.rgb_u8, photo.kps_px, None) for photo in portraits]


def distance(a_px: F32, b_px: F32) -> float:
    return float(np.linalg.norm(a_px - b_px, axis=1).mean())


def test_3ddfa_lands_on_the_detectors_five_points(
    tddfa: LandmarkBackend, portraits: Sequence[Portrait], fitted: Sequence[FaceShape]
) -> None:
    errors = [
        distance(kps_from_landmarks(tddfa.project(face)[None])[0], photo.kps_px) / photo.inter_ocular_px
        for photo, face in zip(portraits, fitted, strict=True)
    ]
    assert len(errors) >= 20
    assert np.median(errors) < 0.05


def test_landmarks_place_the_region_as_well_as_a_second_pass(
    tddfa: LandmarkBackend, portraits: Sequence[Portrait], fitted: Sequence[FaceShape]
) -> None:
    moved = [
        distance(
            tddfa.project(tddfa.encode(photo.rgb_u8, photo.kps_px, photo.landmarks_px)), tddfa.project(face)
        ) / photo.inter_ocular_px
        for photo, face in zip(portraits, fitted, strict=True)
    ]  # fmt: skip
    assert np.median(moved) < 0.03


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_photo_on_its_side_gets_the_same_landmarks_turned(
    tddfa: LandmarkBackend, portraits: Sequence[Portrait], quarter_turns: int
) -> None:
    photo = portraits[0]
    sides = np.array(photo.rgb_u8.shape[1::-1], np.float32)
    kps_px, upright_px = photo.kps_px, tddfa.project(tddfa.encode(photo.rgb_u8, photo.kps_px, None))
    for _ in range(quarter_turns):
        kps_px, upright_px = (np.stack([p[:, 1], sides[0] - 1 - p[:, 0]], axis=1) for p in (kps_px, upright_px))
        sides = sides[::-1]
    turned = np.ascontiguousarray(np.rot90(photo.rgb_u8, quarter_turns))
    assert distance(tddfa.project(tddfa.encode(turned, kps_px, None)), upright_px) < 0.002 * photo.inter_ocular_px


@pytest.mark.parametrize("name", ["tddfa", "points"])
def test_swapping_a_face_with_itself_returns_its_landmarks(
    name: str, weights: Path, portraits: Sequence[Portrait]
) -> None:
    backend = load_backend(name, weights / "3ddfa")
    for photo in portraits:
        face = backend.encode(photo.rgb_u8, photo.kps_px, photo.landmarks_px)
        own_px = photo.landmarks_px if name == "points" else backend.project(face)
        assert np.abs(backend.project(backend.swap(face, face)) - own_px).max() < 1e-3


@pytest.mark.parametrize("name", ["tddfa", "points"])
def test_a_swap_takes_shape_from_the_reference_and_the_rest_from_the_target(
    name: str, weights: Path, portraits: Sequence[Portrait]
) -> None:
    backend = load_backend(name, weights / "3ddfa")
    faces = [backend.encode(photo.rgb_u8, photo.kps_px, photo.landmarks_px) for photo in portraits[:6]]
    for reference, target in pairwise(faces):
        mixed = backend.swap(reference, target)
        assert np.array_equal(mixed.shape, reference.shape)
        for part in ("expression", "pose", "camera"):
            assert np.array_equal(getattr(mixed, part), getattr(target, part))
        moved = distance(backend.project(mixed), backend.project(target))
        assert 0 < moved / (target.camera[0] * np.ptp(backend.project(target) / target.camera[0])) < 0.1


def test_points_bring_a_face_nearer_to_the_swap_of_a_3d_model(
    tddfa: LandmarkBackend, points: LandmarkBackend, fitted: Sequence[FaceShape]
) -> None:
    """The truth is 3DDFA's own swap between its own fits, so that it is exact; sizes are taken out of both."""
    from hifidata.image.align import similarity

    kept, swapped = [], []
    for reference, target in [(a, b) for a in fitted for b in fitted if a is not b]:
        truth = tddfa.project(tddfa.swap(reference, target))
        seen = [points.from_stored(tddfa.project(face), None) for face in (reference, target)]
        for px, errors in ((tddfa.project(target), kept), (points.project(points.swap(*seen)), swapped)):
            matrix = similarity(px, truth)
            errors.append(distance(px @ matrix[:, :2].T + matrix[:, 2], truth) / np.ptp(truth))
    assert np.mean(swapped) < 0.95 * np.mean(kept)


def test_pose_has_the_manifests_signs(
    tddfa: LandmarkBackend, points: LandmarkBackend, portraits: Sequence[Portrait]
) -> None:
    for backend in (tddfa, points):
        for photo in portraits:
            face = backend.encode(photo.rgb_u8, photo.kps_px, photo.landmarks_px)
            yaw_deg, _, roll_deg = backend.angles_deg(face)
            eyes, mouth = photo.kps_px[:2].mean(axis=0), photo.kps_px[3:].mean(axis=0)
            aside = (photo.kps_px[2] - (eyes + mouth) / 2) @ (photo.kps_px[1] - photo.kps_px[0])
            if abs(yaw_deg) > 15:  # the nose moves towards where the head turns
                assert np.sign(yaw_deg) == np.sign(aside)
            tilt_deg = np.rad2deg(np.arctan2(*(photo.kps_px[1] - photo.kps_px[0])[::-1]))
            if abs(tilt_deg) > 8 and abs(yaw_deg) < 20:
                assert np.sign(roll_deg) == np.sign(tilt_deg)


def test_a_stored_face_is_the_encoded_one(tddfa: LandmarkBackend, fitted: Sequence[FaceShape]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, model=np.array("tddfa"), **fitted[0].arrays())
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as stored:
        face = tddfa.from_stored(None, dict(stored))
    assert np.array_equal(tddfa.project(face), tddfa.project(fitted[0]))


def test_training_from_shards_reads_the_basis_and_not_the_network(weights: Path, tmp_path: Path) -> None:
    for file in (weights / "3ddfa").glob("*base.txt"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    backend = load_backend("tddfa", tmp_path)
    with pytest.raises(WeightsError, match=r"mb05_120x120\.onnx is missing"):
        backend.encode(np.zeros((9, 9, 3), np.uint8), np.zeros((5, 2), np.float32), None)


def test_bad_input_is_named(tddfa: LandmarkBackend, points: LandmarkBackend, fitted: Sequence[FaceShape]) -> None:
    stored = {"model": np.array("mesh"), **fitted[0].arrays()}
    flat = np.zeros((68, 2), np.float32)
    black = np.zeros((64, 64, 3), np.uint8)
    for fails, message in (
        (lambda: load_backend("nope"), "known: points, tddfa, deca"),
        (lambda: load_backend("deca"), "generic_model.pkl"),
        (lambda: tddfa.from_stored(flat, None), "no .face3d.npz of that model"),
        (lambda: tddfa.from_stored(flat, stored), "is of 'mesh'"),
        (lambda: tddfa.from_stored(flat, {"model": "tddfa"}), "member shape, expression, pose, camera is missing"),
        (lambda: tddfa.from_stored(flat, stored | {"model": "tddfa", "pose": flat}), "expected {'shape': 40"),
        (lambda: tddfa.encode(black, flat[:5], None), "coincide"),
        (lambda: points.from_stored(None, None), "no 68 landmarks"),
        (lambda: points.from_stored(flat[:5], None), r"shape \(5, 2\), expected \(68, 2\)"),
        (lambda: points.from_stored(flat, None), "do not span a face"),
        (lambda: tddfa.swap(fitted[0], replace(fitted[0], model="points")), "with one backend"),
    ):
        with pytest.raises(LandmarkError, match=message) as caught:
            fails()
        assert "\n" not in str(caught.value)


def test_landmarks_import_no_torch() -> None:
    code = "import sys, hifimodel.landmarks.points, hifimodel.landmarks.tddfa, hifimodel.landmarks.deca; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_mesh_lands_on_the_detectors_five_points(weights: Path, portraits: Sequence[Portrait]) -> None:
    from hifidata.models.face3d.mesh import MeshFitter

    mesh = MeshFitter(weights / "mediapipe" / "face_landmark.onnx")
    errors = []
    for photo in portraits:
        points_px = mesh.points_px(mesh.fit(photo.rgb_u8, photo.kps_px, None))
        errors.append(distance(kps_from_landmarks(points_px[None])[0], photo.kps_px) / photo.inter_ocular_px)
    assert np.median(errors) < 0.05
