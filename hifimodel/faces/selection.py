"""Selection of the reference that gives the landmarks their shape, by face quality and head pose.

Source: paper Eq. 9, S_ref = S_q + 0.5 S_a. S_q is the face quality, 0 to 1 (in the paper by ModelScope FQA). The paper does
not state how S_a follows from RetinaFace. Here it is a function of head poses, which are fitted to five points.
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
"""Five points give the pitch less accurately than the yaw (5.4 and 1.7 degrees from 3DDFA's, median of 115 portraits). Roll
hides no part of the face, and the crop undoes it."""
NO_AGREEMENT_DEG = 90.0
"""Weighted difference from which S_a is 0: the images show opposite sides of the face."""


@dataclass(frozen=True)
class HeadPose:
    """Head pose with the signs of the manifest: positive towards the right of the image, up, and clockwise."""

    yaw_deg: float
    pitch_deg: float
    roll_deg: float


def pose_from_kps(kps_px: F32) -> HeadPose:
    """Fit the head pose of an average face to five points.

    Args:
        kps_px: (5, 2) eyes, nose tip and mouth corners, px; the left of the image first.

    Raises:
        LandmarkError: the points lie on a line.
    """
    try:
        _, rotation, _ = weak_perspective(kps_of(mean_face_mm()), np.asarray(kps_px, np.float64) * (1, -1))  # y up
    except ModelError as error:
        raise LandmarkError(
            f"head pose: the five points do not span a face ({error}); detect the face again"
        ) from error
    return HeadPose(*angles_deg(rotation))


def angle_score(reference: HeadPose, target: HeadPose) -> float:
    """Return S_a: 1 for equal head poses, decreasing linearly to 0 at 90 degrees of weighted difference.

    The difference is sqrt(d_yaw^2 + (d_pitch / 2)^2 + (d_roll / 2)^2), with d_roll at most 180 degrees.
    """
    d_roll = (reference.roll_deg - target.roll_deg + 180) % 360 - 180
    d_pitch = reference.pitch_deg - target.pitch_deg
    apart_deg = np.hypot(np.hypot(reference.yaw_deg - target.yaw_deg, PITCH_WEIGHT * d_pitch), ROLL_WEIGHT * d_roll)
    return float(max(0.0, 1.0 - apart_deg / NO_AGREEMENT_DEG))


def reference_scores(qualities: Sequence[float], references: Sequence[HeadPose], target: HeadPose) -> NDArray[Any]:
    """Return S_ref of Eq. 9 for each reference.

    Args:
        qualities: N face qualities S_q, 0 to 1.
        references: N head poses.
        target: head pose of the target.

    Returns:
        (N,) float64, 0 to 1.5.

    Raises:
        LandmarkError: a quality is missing, or not between 0 and 1.
    """
    quality = np.asarray(qualities, np.float64)
    if quality.shape != (len(references),) or not ((quality >= 0) & (quality <= 1)).all():
        raise LandmarkError(
            f"reference selection: qualities {list(qualities)} for {len(references)} references, expected one between "
            "0 and 1 each; use one quality model for all"
        )
    return np.asarray(quality + ANGLE_WEIGHT * np.array([angle_score(pose, target) for pose in references]))


def select_reference(qualities: Sequence[float], references: Sequence[HeadPose], target: HeadPose) -> int:
    """Return the index of the reference with the highest S_ref, the first of equals. See ``reference_scores``."""
    if not references:
        raise LandmarkError("reference selection: no references; give at least one image with a face")
    return int(np.argmax(reference_scores(qualities, references, target)))
