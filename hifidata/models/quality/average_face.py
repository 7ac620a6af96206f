"""An average face outline from five points, for measures that need one when the detector gives no 68 landmarks.

The outline is a region to measure in. It is never stored as landmarks of the image.
"""

from __future__ import annotations

import numpy as np

from hifidata.image.align import TEMPLATE_PX, similarity
from hifidata.models.protocols import F32

# Median over 120 frontal photos of dlib's 68 points, after the five points were aligned to the template of 112 px.
# fmt: off
_POINTS_112 = np.array([
    (15, 55), (16, 66), (17, 76), (19, 87), (23, 97), (29, 106), (37, 113), (46, 119), (56, 121), (67, 119),
    (76, 113), (84, 106), (90, 97), (93, 87), (94, 76), (95, 65), (96, 55),
    (22, 48), (27, 43), (34, 41), (42, 42), (49, 44),
    (62, 44), (69, 42), (77, 41), (84, 43), (89, 48),
    (56, 52), (56, 59), (55, 66), (56, 73), (48, 77), (51, 79), (56, 80), (60, 79), (64, 77),
    (31, 53), (35, 51), (40, 51), (45, 54), (40, 55), (35, 55),
    (66, 54), (71, 51), (76, 51), (80, 53), (76, 55), (71, 55),
    (39, 91), (45, 88), (51, 87), (56, 88), (61, 87), (67, 88), (73, 91), (67, 97), (61, 99), (56, 99),
    (51, 99), (45, 96), (42, 91), (51, 90), (56, 91), (61, 90), (70, 91), (61, 94), (56, 94), (51, 94),
], np.float32)
# fmt: on

DRAWN_IN = 0.8
"""Scale towards the middle of the face, so that the outline of a turned head contains little background. Of 1, 0.9, 0.8 and
0.7, this value agrees best with scores by 68 landmarks: 87 of 90 faces fall on the same side of 0.60."""


def average_face_px(kps_px: F32) -> F32:
    """Return (68, 2) float32 points in image pixels for five points (5, 2). Raises ModelError if these coincide."""
    matrix = similarity(TEMPLATE_PX, kps_px)
    middle = _POINTS_112.mean(axis=0)
    drawn_in = middle + np.float32(DRAWN_IN) * (_POINTS_112 - middle)
    return np.asarray(drawn_in @ matrix[:, :2].T + matrix[:, 2], np.float32)
