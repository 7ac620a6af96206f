"""MediaPipe's real palm and hand networks on real photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hifidata.core.errors import WeightsError
from hifidata.models.detect.dlib import DlibDetector
from hifidata.models.occlusion.hands import HAND_PX, HandsAtFace, Palm, hand_square, palm_anchors, touches
from hifidata.models.protocols import Faces, RgbU8

FLOOR = 0.5


@pytest.fixture(scope="module")
def hands(assets: Path) -> HandsAtFace:
    folder = assets / "weights" / "mediapipe"
    return HandsAtFace(folder / "palm_detection_lite.onnx", folder / "hand_landmark_lite.onnx")


def score_at_face(hands: HandsAtFace, picture: RgbU8, faces: Faces) -> float:
    return hands.check([picture], [faces.xyxy_px[0]])[0].score or 0.0


@pytest.mark.parametrize("number", [5, 6])
def test_a_hand_on_the_cheek_and_one_over_the_mouth_are_found(
    hands: HandsAtFace, assets: Path, detector: DlibDetector, read_picture: Callable[[Path], RgbU8], number: int
) -> None:
    picture = read_picture(assets / "faces" / "human-samples" / f"stock-emotions-b-{number}.jpg")
    faces = detector.detect([picture])[0]
    answer = hands.check([picture], [faces.xyxy_px[0]])[0]
    assert answer.terms == ("hand",)
    assert (answer.score or 0) > 0.9


def test_seven_faces_without_a_hand_stay_below_the_threshold_and_the_one_with_hands_at_its_temples_does_not(
    hands: HandsAtFace, portraits: list[tuple[RgbU8, Faces]]
) -> None:
    scores = [score_at_face(hands, picture, faces) for picture, faces in portraits]
    assert [score >= FLOOR for score in scores] == [True, *[False] * 7]


def test_the_points_of_a_found_hand_follow_the_picture_when_it_is_shifted_and_shrunk(
    hands: HandsAtFace, portraits: list[tuple[RgbU8, Faces]]
) -> None:
    picture, faces = portraits[0]
    box = faces.xyxy_px[0]
    moved = np.zeros((picture.shape[0] + 60, picture.shape[1] + 40, 3), np.uint8)
    moved[60:, 40:] = picture
    before = max(hands.hands(picture, box, 2.5), key=lambda hand: hand.score)
    after = max(hands.hands(moved, box + np.array([40, 60, 40, 60], np.float32), 2.5), key=lambda hand: hand.score)
    size = float(np.ptp(before.points_px, axis=0).max())
    shift = np.linalg.norm(after.points_px - before.points_px - [40, 60], axis=1).mean()
    assert shift < 0.1 * size


def test_the_anchors_are_the_cell_centres_of_both_grids() -> None:
    anchors = palm_anchors()
    assert anchors.shape == (2016, 2)
    np.testing.assert_allclose(anchors[0], [0.5 / 24, 0.5 / 24])
    np.testing.assert_allclose(anchors[2], [1.5 / 24, 0.5 / 24])  # two a cell, along the row first
    np.testing.assert_allclose(anchors[-1], [11.5 / 12, 11.5 / 12])


@pytest.mark.parametrize("turn_deg", [0, 90, 200])
def test_a_hand_is_turned_so_that_its_fingers_point_up(turn_deg: float) -> None:
    angle = np.deg2rad(turn_deg)
    up = np.array([np.sin(angle), -np.cos(angle)])
    kps = np.full((7, 2), 100.0)
    kps[2] = kps[0] + 40 * up
    matrix = hand_square(Palm(np.array([100.0, 100.0]), np.array([50.0, 50.0]), kps))
    wrist, finger = (matrix[:, :2] @ point + matrix[:, 2] for point in (kps[0], kps[2]))
    assert finger[0] == pytest.approx(wrist[0])
    assert finger[1] < wrist[1]
    assert wrist[0] == pytest.approx(HAND_PX / 2)


def test_a_hand_beside_the_face_does_not_count() -> None:
    box = np.array([100, 100, 200, 220], np.float32)
    beside = np.full((21, 2), 90.0)
    assert not touches(beside, box)
    beside[8] = (101, 150)  # a fingertip
    assert touches(beside, box)


def test_a_face_larger_than_its_picture_is_no_error(hands: HandsAtFace) -> None:
    answer = hands.check([np.zeros((40, 30, 3), np.uint8)], [np.array([-50, -60, 90, 100], np.float32)])[0]
    assert answer.terms in ((), ("hand",))


def test_the_two_networks_in_the_wrong_order_are_refused(assets: Path) -> None:
    folder = assets / "weights" / "mediapipe"
    with pytest.raises(WeightsError, match="another graph than expected"):
        HandsAtFace(folder / "hand_landmark_lite.onnx", folder / "palm_detection_lite.onnx")
