"""Which reference gives the landmarks their shape: the best image among those that look the way the target does.

Source: paper Eq. 9, S_ref = S_q + 0.5 S_a. S_q is the face quality, 0 to 1 (the paper: ModelScope FQA). How S_a follows
from RetinaFace the paper does not say; here it is a stated function of the head poses that five points give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hifidata.core.errors import ModelError
from hifidata.models.face3d.base import angles_deg, kps_of, weak_perspective
from hifidata.models.protocols import F32
from hifimodel.errors import LandmarkError
from hifimodel.landmarks.face_statistics import mean_face_mm

ANGLE_WEIGHT = 0.5
"""Lambda of Eq. 9."""
PITCH_WEIGHT, ROLL_WEIGHT = 0.5, 0.5
"""Five points give the pitch less surely than the yaw (5.4 and 1.7 degrees from 3DDFA's, median of 115
portraits); rolling, which hides nothing, is undone in the image."""
NO_AGREEMENT_DEG = 90.0
"""Weighted difference from which on S_a is 0: nothing that one image shows is seen in the other."""


@dataclass(frozen=True)
class HeadPose:
    """Angles with the manifest's signs: positive towards the image's right, up, and clockwise."""

    yaw_deg: float
    pitch_deg: float
    roll_deg: float


def pose_from_kps(kps_px: F32) -> HeadPose:
    """Head pose by fitting the scaled orthographic projection of an average face to five points.

    Args:
        kps_px: (5, 2) eyes, nose tip and mouth corners, px; "left" first.

    Raises:
        LandmarkError: the points lie on a line.
    """
    try:
        _, rotation, _ = weak_perspective(kps_of(mean_face_mm()), np.asarray(kps_px, np.float64) * (1, -1))  # y up
    except ModelError as error:
        raise LandmarkError(f"head pose: five points are no face ({error}); detect the face again") from error
    return HeadPose(*angles_deg(rotation))


def angle_score(reference: HeadPose, target: HeadPose) -> float:
    """S_a: 1 for the same head pose, falling linearly to 0 at 90 degrees of weighted difference.

    The difference is sqrt(d_yaw^2 + (d_pitch / 2)^2 + (d_roll / 2)^2), roll taken the short way round.
    """
    d_roll = (reference.roll_deg - target.roll_deg + 180) % 360 - 180
    d_pitch = reference.pitch_deg - target.pitch_deg
    apart_deg = np.hypot(np.hypot(reference.yaw_deg - target.yaw_deg, PITCH_WEIGHT * d_pitch), ROLL_WEIGHT * d_roll)
    return float(max(0.0, 1.0 - apart_deg / NO_AGREEMENT_DEG))


def reference_scores(qualities: Sequence[float], references: Sequence[HeadPose], target: HeadPose) -> NDArray[Any]:
    """S_ref of Eq. 9 for each reference.

    Args:
        qualities: N face qualities S_q, 0 to 1.
        references: N head poses.
        target: the target's.

    Returns:
        (N,) float64, 0 to 1.5.

    Raises:
        LandmarkError: a quality is missing or not between 0 and 1.
    """
    quality = np.asarray(qualities, np.float64)
    if quality.shape != (len(references),) or not ((quality >= 0) & (quality <= 1)).all():
        raise LandmarkError(
            f"reference selection: qualities {list(qualities)} for {len(references)} references, expected one between "
            "0 and 1 each; score them with one quality model"
        )
    return np.asarray(quality + ANGLE_WEIGHT * np.array([angle_score(pose, target) for pose in references]))


def select_reference(qualities: Sequence[float], references: Sequence[HeadPose], target: HeadPose) -> int:
    """Index of the reference with the highest S_ref; the first of equals. See ``reference_scores``."""
    if not references:
        raise LandmarkError("reference selection: no references; give at least one image with a face")
    return int(np.argmax(reference_scores(qualities, references, target)))
