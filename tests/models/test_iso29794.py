from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import pytest

from hifidata.core.errors import ModelError
from hifidata.models.protocols import Faces, RgbU8
from hifidata.models.quality.iso29794 import WEIGHTS, IsoQuality, head_pose_deg

DAMAGE: dict[str, tuple[str, Callable[[RgbU8, float], RgbU8]]] = {
    "defocused": ("quality_sharpness", lambda rgb, eye_px: cv2.GaussianBlur(rgb, (0, 0), 0.03 * eye_px)),
    "moved": ("quality_sharpness", lambda rgb, eye_px: cv2.blur(rgb, (max(3, int(0.12 * eye_px)), 1))),
    "enlarged": ("quality_sharpness", lambda rgb, eye_px: enlarged_from(rgb, 20 / eye_px)),
    "dark": ("quality_exposure", lambda rgb, _: rgb // 5),
    "burnt out": ("quality_exposure", lambda rgb, _: cv2.convertScaleAbs(rgb, alpha=3)),
    "flat": ("quality_contrast", lambda rgb, _: (100 + rgb * 0.12).astype(np.uint8)),
}


def enlarged_from(rgb: RgbU8, scale: float) -> RgbU8:
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, rgb.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def score_of(picture: RgbU8, faces: Faces) -> Mapping[str, float | None]:
    assert faces.landmarks_px is not None
    return IsoQuality().score(picture, faces.xyxy_px[0], faces.kps_px[0], faces.landmarks_px[0])


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_lowers_its_component_on_every_portrait_and_the_total_clearly(
    portraits: list[tuple[RgbU8, Faces]], damage: str
) -> None:
    component, harm = DAMAGE[damage]
    totals = []
    for picture, faces in portraits:
        before = score_of(picture, faces)
        after = score_of(harm(picture, float(before["inter_eye_px"] or 0)), faces)
        assert (after[component] or 0.0) < (before[component] or 0.0)
        totals.append((before["quality_score"] or 0.0, after["quality_score"] or 0.0))
    before_mean, after_mean = np.mean(totals, axis=0)
    assert after_mean < before_mean - 0.2


def test_one_hopeless_component_sinks_a_good_portrait(portraits: list[tuple[RgbU8, Faces]]) -> None:
    picture, faces = portraits[0]
    blurred = cv2.GaussianBlur(picture, (0, 0), 12)
    assert (score_of(picture, faces)["quality_score"] or 0) > 0.8
    assert (score_of(blurred, faces)["quality_score"] or 1) < 0.3


def test_the_same_sharp_face_scores_alike_at_every_sufficient_resolution(
    portraits: list[tuple[RgbU8, Faces]],
) -> None:
    picture, faces = portraits[0]
    half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert faces.landmarks_px is not None
    reduced = Faces(faces.xyxy_px / 2, faces.scores, faces.kps_px / 2, faces.landmarks_px / 2)
    sharpness = [score_of(*pair)["quality_sharpness"] or 0 for pair in ((picture, faces), (half, reduced))]
    assert abs(sharpness[0] - sharpness[1]) < 0.1


def test_every_number_has_its_range_and_the_same_value_twice(astronaut: RgbU8, astronaut_face: Faces) -> None:
    columns = score_of(astronaut, astronaut_face)
    assert columns == score_of(astronaut, astronaut_face)
    assert set(columns) == {"quality_score", *WEIGHTS, "yaw_deg", "pitch_deg", "roll_deg", "inter_eye_px"}
    assert all(0 <= (columns[name] or 0) <= 1 for name in ("quality_score", *WEIGHTS))
    assert sum(WEIGHTS.values()) == pytest.approx(1)


def test_mirroring_flips_yaw_and_roll_and_keeps_pitch(astronaut_face: Faces) -> None:
    assert astronaut_face.landmarks_px is not None
    points = astronaut_face.landmarks_px[0]
    pairs = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38]
    pairs += [37, 36, 41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    mirrored = (points * [-1, 1] + [512, 0])[pairs].astype(np.float32)
    yaw, pitch, roll = head_pose_deg(points)
    assert head_pose_deg(mirrored) == pytest.approx((-yaw, pitch, -roll), abs=1e-3)


def test_turning_the_picture_clockwise_is_positive_roll(astronaut_face: Faces) -> None:
    assert astronaut_face.landmarks_px is not None
    points = astronaut_face.landmarks_px[0]
    angle = np.deg2rad(20)
    clockwise = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    assert head_pose_deg(points @ clockwise)[2] - head_pose_deg(points)[2] == pytest.approx(20, abs=0.01)


def test_a_head_turned_to_the_pictures_right_has_positive_yaw(portraits: list[tuple[RgbU8, Faces]]) -> None:
    yaws = []
    for _, faces in portraits:
        assert faces.landmarks_px is not None
        left_eye, right_eye, nose = faces.kps_px[0, :3]
        nose_offset = (nose[0] - (left_eye[0] + right_eye[0]) / 2) / (right_eye[0] - left_eye[0])
        yaws.append((nose_offset, head_pose_deg(faces.landmarks_px[0])[0]))
    assert np.corrcoef(np.array(yaws).T)[0, 1] > 0.9


def test_landmarks_that_span_no_face_are_a_model_error(astronaut: RgbU8, astronaut_face: Faces) -> None:
    box, kps = astronaut_face.xyxy_px[0], astronaut_face.kps_px[0]
    with pytest.raises(ModelError, match=r"on a line|coincide"):
        IsoQuality().score(astronaut, box, np.full_like(kps, 50), None)
    with pytest.raises(ModelError, match="landmarks"):
        IsoQuality().score(astronaut, box, kps * 0, np.zeros((68, 2), np.float32))
    with pytest.raises(ModelError, match="landmarks"):
        IsoQuality().score(astronaut, box, kps, np.full((68, 2), 5000, np.float32))


def test_without_68_landmarks_five_points_give_nearly_the_same_score_and_pose(
    portraits: list[tuple[RgbU8, Faces]],
) -> None:
    for picture, faces in portraits:
        box, kps = faces.xyxy_px[0], faces.kps_px[0]
        of_five, of_68 = IsoQuality().score(picture, box, kps, None), score_of(picture, faces)
        assert of_five.keys() == of_68.keys()
        assert of_five["quality_score"] == pytest.approx(of_68["quality_score"], abs=0.15)
        assert of_five["roll_deg"] == pytest.approx(of_68["roll_deg"], abs=2)
        assert of_five["yaw_deg"] == pytest.approx(of_68["yaw_deg"], abs=8)


def test_blur_lowers_the_score_of_five_points_too(portraits: list[tuple[RgbU8, Faces]]) -> None:
    for picture, faces in portraits[:3]:
        box, kps = faces.xyxy_px[0], faces.kps_px[0]
        blurred = cv2.GaussianBlur(picture, (0, 0), 0.03 * float(np.linalg.norm(kps[1] - kps[0])))
        before, after = (IsoQuality().score(p, box, kps, None)["quality_score"] for p in (picture, blurred))
        assert before is not None
        assert after is not None
        assert after < 0.7 * before
