"""Preparation of photos: background removal, and the best face aligned and cropped.

Source: paper 3.2 (pre-processing): matting, then the highest-scoring face. Here the face is detected before matting, since a
poor matte can remove an ear or the chin. Only CLIP's crop is matted: the identity vectors and 3D faces of shards, with which a
model is trained, come from the original image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hifidata.core.errors import ModelError
from hifidata.image.align import norm_crop
from hifidata.models.protocols import F32, FaceDetector, Faces, RgbU8
from hifimodel.errors import PhotoError, one_line
from hifimodel.faces.clip_crop import ClipView, clip_view


@dataclass(frozen=True)
class Preparation:
    """Settings of the preparation.

    Attributes:
        alpha: (H, W, 3) image -> (H, W) opacity of the person, by a matting model of hifidata; None keeps backgrounds.
        view: CLIP's crop, as in training.
        other_face_min_area_ratio: a further face of a target counts from this share of the main face's area.
    """

    alpha: Callable[[RgbU8], F32] | None = None
    view: ClipView = field(default_factory=ClipView)
    other_face_min_area_ratio: float = 0.25


@dataclass(frozen=True)
class PhotoFace:
    """The selected face of a photo.

    Attributes:
        name: file name, for messages.
        rgb_u8: (H, W, 3), the photo.
        xyxy_px: (4,) face box.
        kps_px: (5, 2).
        landmarks_px: (68, 2), or None if the detector gives none.
        score: of the detector.
    """

    name: str
    rgb_u8: RgbU8
    xyxy_px: F32
    kps_px: F32
    landmarks_px: F32 | None
    score: float


@dataclass(frozen=True)
class Reference:
    """The crops of a reference.

    Attributes:
        face: the face and its position.
        aligned_rgb_u8: (112, 112, 3), for the identity embedding.
        clip_rgb_u8: (224, 224, 3), for CLIP; without background if ``is_matted``.
        is_matted: whether a matte was requested and accepted.
    """

    face: PhotoFace
    aligned_rgb_u8: RgbU8
    clip_rgb_u8: RgbU8
    is_matted: bool


def read_photo(path: Path) -> RgbU8:
    """Read a photo as (H, W, 3) uint8 sRGB, upright. Raises PhotoError if the file is not an image."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            return np.asarray((_grey_u8(upright) if upright.mode.startswith("I") else upright).convert("RGB"))
    except FileNotFoundError:
        raise PhotoError(f"{path}: no such file") from None
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise PhotoError(f"{path}: not a readable image ({one_line(error)}); use a JPEG or PNG") from error


def prepare_reference(name: str, rgb_u8: RgbU8, detector: FaceDetector, how: Preparation | None = None) -> Reference:
    """Prepare the highest-scoring face of a reference photo.

    Args:
        name: file name, for messages.
        rgb_u8: (H, W, 3) uint8.
        detector: a face detector of hifidata.
        how: the settings; None: defaults.

    Raises:
        PhotoError: no face, or the five points coincide.
    """
    how = how or Preparation()
    faces = detector.detect([rgb_u8])[0]
    if not len(faces.scores):
        raise PhotoError(
            f"reference {name}: {detector.name} finds no face; use a photo with the face larger and unobstructed"
        )
    best = int(np.argmax(faces.scores))
    face = _face(name, rgb_u8, faces, best)
    alpha_u8 = None if how.alpha is None else np.rint(how.alpha(rgb_u8) * 255).astype(np.uint8)  # as stored in shards
    try:
        aligned = norm_crop(rgb_u8, face.kps_px)
        clip, is_matted = clip_view(rgb_u8, face.xyxy_px, how.view, alpha_u8)
    except ModelError as error:
        raise PhotoError(f"reference {name}: the face has no extent ({error}); use another photo") from error
    return Reference(face, aligned, clip, is_matted)


def prepare_target(name: str, rgb_u8: RgbU8, detector: FaceDetector, how: Preparation | None = None) -> PhotoFace:
    """Select the only face of a target photo; which further faces count follows the ``detect`` section of recipes.

    Raises:
        PhotoError: no face, or more than one that counts.
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


def _grey_u8(image: Image.Image) -> Image.Image:
    """Convert a 16-bit grey image to 8 bits, as hifidata does; Pillow would clip it at 255, which is white."""
    grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
    return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))


def _face(name: str, rgb_u8: RgbU8, faces: Faces, index: int) -> PhotoFace:
    landmarks_px = None if faces.landmarks_px is None else faces.landmarks_px[index]
    return PhotoFace(name, rgb_u8, faces.xyxy_px[index], faces.kps_px[index], landmarks_px, float(faces.scores[index]))
