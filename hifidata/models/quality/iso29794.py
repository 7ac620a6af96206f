"""Face quality by the measures of ISO/IEC 29794-5, computed from pixels and 68 landmarks; no model, a few ms.

Each component is scaled to 0..1 and stored as a column, so a low score explains itself. The total is a weighted geometric
mean: one very low component lowers the total, which an arithmetic mean would hide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from hifidata.core.errors import ModelError
from hifidata.models.face3d.base import weak_perspective
from hifidata.models.protocols import F32, RgbU8
from hifidata.models.quality.average_face import average_face_px

# The numbers below were chosen on half of the people of a private set of real photos and checked on the other half: intact
# photos against the same photos blurred, enlarged, darkened, over-exposed and reduced in contrast (docs/quality.md).

WORK_INTER_EYE_PX = 64.0
"""Faces are scaled to this eye distance before measuring, so that blur counts relative to the face. Of 32, 48, 56, 64, 80
and 96 px, this value separated intact from degraded best when small faces are included."""

WEIGHTS = {
    "quality_sharpness": 0.40,
    "quality_exposure": 0.20,
    "quality_contrast": 0.15,
    "quality_inter_eye": 0.10,
    "quality_illumination": 0.10,
    "quality_pose": 0.05,
}
"""Sum to 1. Side light and turned heads are style rather than damage, so the last two weights are small."""

COMPONENT_FLOOR = 0.01
"""Keeps the geometric mean above zero, so that poor images stay ordered."""


class Ramp(NamedTuple):
    """A linear scale from a raw measure to 0..1: 0 at ``worst``, 1 at ``best`` and beyond."""

    worst: float
    best: float

    def __call__(self, value: float) -> float:
        return float(np.clip((value - self.worst) / (self.best - self.worst), 0.0, 1.0))


SHARPNESS = Ramp(worst=-5.5, best=-3.5)  # log ratio; intact large faces: median -3.0, enlarged from 24 px: -5.2
INTER_EYE_PX = Ramp(worst=20.0, best=90.0)  # ISO/IEC 19794-5 requires 90 px in a frontal face image
UNEVENNESS = Ramp(worst=0.60, best=0.15)  # of the halves' mean luma; intact: 95 % below 0.24
CONTRAST = Ramp(worst=0.03, best=0.10)  # standard deviation of luma; intact: 95 % above 0.107
BRIGHTEST_SKIN = Ramp(worst=0.15, best=0.40)  # 95th percentile of luma; intact: 95 % above 0.54
BURNT_OUT_SHARE = Ramp(worst=0.30, best=0.02)  # intact: 95 % below 0.005

MAX_WORK_SIDE_PX = 1024
"""Memory bound for invalid landmarks (eyes that coincide)."""

# Points of an average adult face in mm (x to the right of the image, y down, z away from the camera), set by hand from
# usual facial distances. Stored poses and quality scores depend on these numbers, so they never change.
_MODEL_MM = {
    27: (0, -42, 17),
    30: (0, 0, 0),
    33: (0, 13, 12),
    8: (0, 78, 22),
    36: (-45, -35, 37),
    39: (-17, -34, 29),
    42: (17, -34, 29),
    45: (45, -35, 37),
    48: (-26, 38, 24),
    54: (26, 38, 24),
}
_LEFT_HALF = [*range(9), 57, 51, 33, 30, 27, 21, 20, 19, 18, 17]
_RIGHT_HALF = [*range(8, 17), 26, 25, 24, 23, 22, 27, 30, 33, 51, 57]
_OUTLINE = [*range(17), 26, 25, 24, 19, 18, 17]
_SECOND_DIFFERENCES = tuple(
    np.array(kernel, np.float32) / norm
    for kernel, norm in (
        ([[0, 0, 0], [1, -2, 1], [0, 0, 0]], 1.0),
        ([[0, 1, 0], [0, -2, 0], [0, 1, 0]], 1.0),
        ([[1, 0, 0], [0, -2, 0], [0, 0, 1]], 2**0.5),
        ([[0, 0, 1], [0, -2, 0], [1, 0, 0]], 2**0.5),
    )
)


class IsoQuality:
    """Weighted set of sharpness, inter-eye distance, exposure, illumination, contrast and head pose."""

    name = "iso29794"

    def score(self, picture: RgbU8, xyxy_px: F32, kps_px: F32, landmarks_px: F32 | None) -> Mapping[str, float | None]:
        """Return ``quality_score`` and its components (0 to 1), the pose in degrees and ``inter_eye_px``.

        Without 68 landmarks, the pose comes from the five points and the outline from an average face around them.

        Raises:
            ModelError: the points do not span a face.
        """
        inter_eye_px = float(np.linalg.norm(kps_px[1] - kps_px[0]))
        if landmarks_px is None:
            yaw_deg, pitch_deg, roll_deg = head_pose_of_kps_deg(kps_px)
            landmarks_px = average_face_px(kps_px)
        else:
            yaw_deg, pitch_deg, roll_deg = head_pose_deg(landmarks_px)
        # a turned head shortens the eye distance without reducing the resolution
        frontal_inter_eye_px = inter_eye_px / max(float(np.cos(np.deg2rad(yaw_deg))), 0.5)
        luma, points = face_luma(picture, landmarks_px, frontal_inter_eye_px)
        left, right, face = (
            luma[_polygon_mask(luma.shape, points[ids])] for ids in (_LEFT_HALF, _RIGHT_HALF, _OUTLINE)
        )
        if min(left.size, right.size) == 0:
            raise ModelError(f"{self.name}: the landmarks do not span a face inside the image")
        components = {
            "quality_sharpness": SHARPNESS(log_sharpness(luma, points)),
            "quality_inter_eye": INTER_EYE_PX(frontal_inter_eye_px),
            "quality_exposure": exposure(face),
            "quality_illumination": UNEVENNESS(abs(left.mean() - right.mean()) / max(left.mean() + right.mean(), 1e-3)),
            "quality_contrast": CONTRAST(face.std()),
            "quality_pose": max(0.0, float(np.cos(np.deg2rad(yaw_deg)) * np.cos(np.deg2rad(pitch_deg)))),
        }
        return {
            "quality_score": weighted_geometric_mean(components),
            **components,
            "yaw_deg": yaw_deg,
            "pitch_deg": pitch_deg,
            "roll_deg": roll_deg,
            "inter_eye_px": inter_eye_px,
        }


def face_luma(picture: RgbU8, landmarks_px: F32, inter_eye_px: float) -> tuple[F32, F32]:
    """Cut out the face as luma, scaled to ``WORK_INTER_EYE_PX``.

    Returns:
        luma (h, w) float32 in 0..1 and the (68, 2) landmarks in its pixels.
    """
    height, width = picture.shape[:2]
    margin_px = 0.3 * inter_eye_px
    x1, y1 = np.clip(np.floor(landmarks_px.min(axis=0) - margin_px), 0, (width - 1, height - 1)).astype(int)
    x2, y2 = np.clip(np.ceil(landmarks_px.max(axis=0) + margin_px), (x1 + 1, y1 + 1), (width, height)).astype(int)
    scale = min(WORK_INTER_EYE_PX / max(inter_eye_px, 1.0), MAX_WORK_SIDE_PX / max(x2 - x1, y2 - y1))
    luma = cv2.cvtColor(np.ascontiguousarray(picture[y1:y2, x1:x2]), cv2.COLOR_RGB2GRAY)
    size = (max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale)))
    luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    points = (landmarks_px - np.array([x1, y1])) * scale
    return luma.astype(np.float32) / np.float32(255), points.astype(np.float32)


def log_sharpness(luma: F32, points: F32) -> float:
    """Return the log ratio of the variance of second differences to the variance of luma.

    The weakest of four directions counts, because motion blurs along one direction only.
    """
    inside = _polygon_mask(luma.shape, points[_OUTLINE])
    weakest = min(float(cv2.filter2D(luma, -1, kernel)[inside].var()) for kernel in _SECOND_DIFFERENCES)
    return float(np.log((weakest + 1e-7) / (float(luma[inside].var()) + 1e-4)))


def exposure(face_luma: F32) -> float:
    """Return 0 to 1: low if even the brightest skin is dark, or if much of it is over-exposed.

    Uses the 95th percentile instead of the mean, so that dark skin in good light does not count as under-exposed.
    """
    return min(
        BRIGHTEST_SKIN(float(np.percentile(face_luma, 95))), BURNT_OUT_SHARE(float((face_luma >= 248 / 255).mean()))
    )


def head_pose_deg(landmarks_px: F32) -> tuple[float, float, float]:
    """Fit yaw, pitch and roll of an average face to (68, 2) landmarks.

    Positive yaw: towards the right of the image; pitch: up; roll: clockwise. Orthographic, since the focal length of a web
    photo is unknown. Raises ModelError if the landmarks coincide.
    """
    eyes = landmarks_px[42:48].mean(axis=0) - landmarks_px[36:42].mean(axis=0)
    return _pose_deg(landmarks_px[list(_MODEL_MM)], np.array(list(_MODEL_MM.values()), np.float64), eyes)


def head_pose_of_kps_deg(kps_px: F32) -> tuple[float, float, float]:
    """Fit the same to five points (5, 2).

    On 270 faces the yaw is within 2.6 degrees (median) of the fit to 68 points, and correlates better with a 3D model
    (0.99 against 0.95). The pitch is about 8 degrees lower.
    """
    eye_left, eye_right = (np.mean([_MODEL_MM[a], _MODEL_MM[b]], axis=0) for a, b in ((36, 39), (42, 45)))
    model = np.array([eye_left, eye_right, _MODEL_MM[30], _MODEL_MM[48], _MODEL_MM[54]], np.float64)
    return _pose_deg(kps_px, model, kps_px[1] - kps_px[0])


def _pose_deg(points_px: F32, model: NDArray[np.float64], eyes: F32) -> tuple[float, float, float]:
    gaze = -weak_perspective(model, points_px)[1][:, 2]
    yaw, pitch, roll = np.arctan2(gaze[0], -gaze[2]), np.arcsin(np.clip(-gaze[1], -1, 1)), np.arctan2(eyes[1], eyes[0])
    return float(np.rad2deg(yaw)), float(np.rad2deg(pitch)), float(np.rad2deg(roll))


def weighted_geometric_mean(components: Mapping[str, float]) -> float:
    """0 to 1; ``WEIGHTS`` sum to 1."""
    return float(np.exp(sum(w * np.log(max(components[name], COMPONENT_FLOOR)) for name, w in WEIGHTS.items())))


def _polygon_mask(shape: tuple[int, ...], points: F32) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 1)
    return mask.astype(bool)
