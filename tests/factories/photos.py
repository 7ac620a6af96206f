"""Real portraits with SCRFD's points, for the tests of what happens to faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hifidata.models.detect.dlib import LandmarkPredictor
from hifidata.models.protocols import F32, FaceDetector, RgbU8

PHOTOS = (
    "human-samples/stock-emotions-a-[1258].jpg",
    "human-samples/stock-emotions-b-[248].jpg",
    "human-samples/person-vlado.jpg",
    "face_recognition/examples__obama.jpg",
    "face_recognition/examples__biden.jpg",
    "face_recognition/knn__train__*.jp*g",
    "openface/[acl]*[nsl1].jpg",
    "bbt/[aprs]*/*1.*",
    "photomaker/[sy]*/*_[01]*.jp*g",
)
"""Patterns of photos with one face."""
LONG_SIDE_PX = 1024


@dataclass(frozen=True)
class Portrait:
    """A real photo with one face: SCRFD's five points and dlib's 68."""

    name: str
    rgb_u8: RgbU8
    kps_px: F32
    landmarks_px: F32

    @property
    def inter_ocular_px(self) -> float:
        return float(np.linalg.norm(self.kps_px[1] - self.kps_px[0]))


def read_portraits(faces: Path, detector: FaceDetector) -> Sequence[Portrait]:
    """Some two dozen people in many poses and sizes."""
    predictor = LandmarkPredictor()
    found = []
    for path in (path for pattern in PHOTOS for path in sorted(faces.glob(pattern))):
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        upright.thumbnail((LONG_SIDE_PX, LONG_SIDE_PX))
        rgb_u8 = np.asarray(upright)
        faces_found = detector.detect([rgb_u8])[0]
        landmarks_px = predictor.predict(rgb_u8, faces_found.xyxy_px[0])
        found.append(Portrait(path.name, rgb_u8, faces_found.kps_px[0], landmarks_px))
    return found
