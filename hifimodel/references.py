"""From a photo to what the nets see of it: background removed, the best face aligned and cropped.

Source: paper 3.2 (pre-processing): matting, then the highest-scoring face. Here the face is looked for before the
background goes, since a poor matte can cost an ear or a chin; and only CLIP sees the matted picture, since the identity
vectors and 3D faces of shards, which a model is trained with, are made from the picture as it was taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hifidata.backends.base import F32, FaceDetector, Faces, RgbU8
from hifimodel.errors import PhotoError
from hifimodel.face_chip import align_face
from hifimodel.geometry import DegenerateError

CLIP_PX = 224


@dataclass(frozen=True)
class Preparation:
    """How references are prepared.

    Attributes:
        alpha: (H, W, 3) picture -> (H, W) share of the person, of a backend of hifidata's matting; None keeps backgrounds.
        ground_rgb: colour behind the person.
        clip_side_over_face: side of CLIP's square over the longer side of the face box.
        other_face_min_area_ratio: from this share of the main face's area on, another face in a target counts.
        min_face_alpha: where the matte keeps less of the middle of the face, it is wrong, and the background stays.
    """

    alpha: Callable[[RgbU8], F32] | None = None
    ground_rgb: tuple[int, int, int] = (255, 255, 255)
    clip_side_over_face: float = 1.3
    other_face_min_area_ratio: float = 0.25
    min_face_alpha: float = 0.8


@dataclass(frozen=True)
class PhotoFace:
    """The face that counts in a photo.

    Attributes:
        name: file name, for messages.
        rgb_u8: (H, W, 3) the photo.
        xyxy_px: (4,) face box.
        kps_px: (5, 2).
        landmarks_px: (68, 2), or None where the detector has none.
        score: the detector's.
    """

    name: str
    rgb_u8: RgbU8
    xyxy_px: F32
    kps_px: F32
    landmarks_px: F32 | None
    score: float


@dataclass(frozen=True)
class Reference:
    """What the face encoder takes of one reference.

    Attributes:
        face: the face and where it lies.
        aligned_rgb_u8: (112, 112, 3), for the identity embedding.
        clip_rgb_u8: (224, 224, 3), for CLIP; its background removed where that was asked for and worked.
        is_matted: whether it was.
    """

    face: PhotoFace
    aligned_rgb_u8: RgbU8
    clip_rgb_u8: RgbU8
    is_matted: bool


def read_photo(path: Path) -> RgbU8:
    """(H, W, 3) uint8 sRGB, upright. Raises PhotoError where the file is not a picture."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            return np.asarray((_grey_u8(upright) if upright.mode.startswith("I") else upright).convert("RGB"))
    except FileNotFoundError:
        raise PhotoError(f"{path}: no such file") from None
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise PhotoError(
            f"{path}: not a readable picture ({' '.join(str(error).split())}); use a JPEG or PNG"
        ) from error


def prepare_reference(name: str, rgb_u8: RgbU8, detector: FaceDetector, how: Preparation | None = None) -> Reference:
    """Takes the highest-scoring face of a reference photo.

    Args:
        name: file name, for messages.
        rgb_u8: (H, W, 3) uint8.
        detector: see hifidata's ``FaceDetector``.
        how: matting and crop.

    Raises:
        PhotoError: there is no face, or its five points coincide.
    """
    how = how or Preparation()
    faces = detector.detect([rgb_u8])[0]
    if not len(faces.scores):
        raise PhotoError(
            f"reference {name}: {detector.name} finds no face; use a photo with the face larger and unobstructed"
        )
    best = int(np.argmax(faces.scores))
    face = _face(name, rgb_u8, faces, best)
    try:
        aligned = align_face(rgb_u8, face.kps_px)
    except DegenerateError as error:
        raise PhotoError(f"reference {name}: the face's five points coincide; use another photo") from error
    alpha = None if how.alpha is None else how.alpha(rgb_u8)
    is_matted = alpha is not None and _middle_mean(alpha, face.xyxy_px) >= how.min_face_alpha
    if alpha is not None and is_matted:
        rgb_u8 = on_ground(rgb_u8, alpha, how.ground_rgb)
    clip = square_crop(rgb_u8, face.xyxy_px, how.clip_side_over_face, how.ground_rgb)
    return Reference(face, aligned, clip, is_matted)


def prepare_target(name: str, rgb_u8: RgbU8, detector: FaceDetector, how: Preparation | None = None) -> PhotoFace:
    """Takes the only face of a target photo; which other faces count is as in a recipe's ``detect`` section.

    Raises:
        PhotoError: there is no face, or more than one that counts.
    """
    how = how or Preparation()
    faces = detector.detect([rgb_u8])[0]
    if not len(faces.scores):
        raise PhotoError(
            f"target {name}: {detector.name} finds no face; use another photo, or generate without landmarks"
        )
    areas = np.prod(faces.xyxy_px[:, 2:] - faces.xyxy_px[:, :2], axis=1)
    n_faces = int((areas >= how.other_face_min_area_ratio * areas.max()).sum())
    if n_faces > 1:
        raise PhotoError(
            f"target {name}: {detector.name} finds {n_faces} faces that count, expected 1; crop it to one face"
        )
    return _face(name, rgb_u8, faces, int(np.argmax(areas)))


def on_ground(rgb_u8: RgbU8, alpha: F32, ground_rgb: tuple[int, int, int]) -> RgbU8:
    """The picture over one colour.

    Args:
        rgb_u8: (H, W, 3) uint8.
        alpha: (H, W) float32, 0 to 1.
        ground_rgb: for example white.

    Returns:
        (H, W, 3) uint8.
    """
    share = alpha[:, :, None]
    ground = np.array(ground_rgb, np.float32)
    return np.asarray(np.rint(rgb_u8 * share + ground * (1 - share)), np.uint8)


def square_crop(rgb_u8: RgbU8, xyxy_px: F32, side_over_face: float, ground_rgb: tuple[int, int, int]) -> RgbU8:
    """(224, 224, 3) uint8: the square around a face box, filled with one colour where the photo ends.

    Args:
        rgb_u8: (H, W, 3) uint8.
        xyxy_px: (4,) face box.
        side_over_face: side of the square over the longer side of the box.
        ground_rgb: the colour.
    """
    low, high = xyxy_px[:2].astype(np.float64), xyxy_px[2:].astype(np.float64)
    side_px = max(1, round(float((high - low).max()) * side_over_face))
    left, top = np.rint((low + high - side_px) / 2).astype(int)
    square = np.full((side_px, side_px, 3), ground_rgb, np.uint8)
    height, width = rgb_u8.shape[:2]
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side_px, width), min(top + side_px, height)
    if x1 < x2 and y1 < y2:
        square[y1 - top : y2 - top, x1 - left : x2 - left] = rgb_u8[y1:y2, x1:x2]
    way = cv2.INTER_AREA if side_px > CLIP_PX else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (CLIP_PX, CLIP_PX), interpolation=way), np.uint8)


def _grey_u8(picture: Image.Image) -> Image.Image:
    """A 16-bit grey picture with 8 bits, as hifidata takes it; Pillow would clip it at 255, and so make it white."""
    grey = np.clip(np.asarray(picture).astype(np.int64), 0, 65535)
    return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))


def _middle_mean(alpha: F32, xyxy_px: F32) -> float:
    """Mean of a map over the middle half of a box; 0 where that lies outside."""
    quarter = (xyxy_px[2:] - xyxy_px[:2]) / 4
    x1, y1 = np.maximum(np.floor(xyxy_px[:2] + quarter), 0).astype(int)
    x2, y2 = np.maximum(np.ceil(xyxy_px[2:] - quarter), 0).astype(int)
    middle = alpha[y1:y2, x1:x2]
    return float(middle.mean()) if middle.size else 0.0


def _face(name: str, rgb_u8: RgbU8, faces: Faces, index: int) -> PhotoFace:
    landmarks_px = None if faces.landmarks_px is None else faces.landmarks_px[index]
    return PhotoFace(name, rgb_u8, faces.xyxy_px[index], faces.kps_px[index], landmarks_px, float(faces.scores[index]))
