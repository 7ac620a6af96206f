"""Eq. 9: which reference the landmarks take their shape from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hifimodel.faces.selection import HeadPose, angle_score, pose_from_kps, reference_scores, select_reference
from hifimodel.landmarks import LandmarkError, load_backend
from tests.factories.photos import Portrait

FRONT = HeadPose(0, 0, 0)


def test_the_score_is_quality_plus_half_the_angle_score() -> None:
    poses = [FRONT, HeadPose(45, 0, 0), HeadPose(-90, 0, 0)]
    assert reference_scores([0.2, 0.9, 1.0], poses, FRONT).tolist() == pytest.approx([0.7, 1.15, 1.0])
    assert select_reference([0.2, 0.9, 1.0], poses, FRONT) == 1
    assert select_reference([0.5, 0.5], [HeadPose(30, 0, 0), HeadPose(5, 0, 0)], HeadPose(28, 0, 0)) == 0


def test_the_angle_score_is_symmetric_bounded_and_blind_to_a_full_turn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = (HeadPose(*rng.uniform((-90, -60, -180), (90, 60, 180))) for _ in "ab")
        assert 0 <= angle_score(a, b) <= 1
        assert angle_score(a, b) == pytest.approx(angle_score(b, a))
    assert angle_score(FRONT, FRONT) == 1
    assert angle_score(HeadPose(0, 0, 179), HeadPose(0, 0, -179)) == pytest.approx(1 - 1 / 90)
    turned, nodded, rolled = (angle_score(FRONT, HeadPose(*angles)) for angles in ((20, 0, 0), (0, 20, 0), (0, 0, 20)))
    assert turned < nodded == rolled < 1


def test_five_points_agree_with_a_3d_model_on_real_portraits(weights: Path, portraits: Sequence[Portrait]) -> None:
    tddfa = load_backend("tddfa", weights / "3ddfa")
    truth = np.array([tddfa.angles_deg(tddfa.encode(photo.rgb_u8, photo.kps_px, None)) for photo in portraits])
    poses = [pose_from_kps(photo.kps_px) for photo in portraits]
    got = np.array([(pose.yaw_deg, pose.pitch_deg, pose.roll_deg) for pose in poses])
    apart = np.median(np.abs(got - truth), axis=0)
    assert (apart < (4, 10, 3)).all()
    assert np.corrcoef(got[:, 0], truth[:, 0])[0, 1] > 0.95


def test_bad_input_is_named() -> None:
    with pytest.raises(LandmarkError, match="no references"):
        select_reference([], [], FRONT)
    with pytest.raises(LandmarkError, match="for 2 references"):
        reference_scores([0.5], [FRONT, FRONT], FRONT)
    with pytest.raises(LandmarkError, match="between 0 and 1"):
        reference_scores([float("nan")], [FRONT], FRONT)
    with pytest.raises(LandmarkError, match="do not span a face"):
        pose_from_kps(np.ones((5, 2), np.float32))
