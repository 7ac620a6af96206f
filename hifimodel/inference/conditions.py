"""The condition of the pipeline from photos: face crops, identity vectors and the landmark image.

reader = PhotoReader(detector, identity, quality, landmarks)
condition = reader.read(references=[Path("a.jpg"), Path("b.jpg")], target=Path("t.jpg"), size_px=1024)
pipeline("a portrait", condition)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hifidata.models.protocols import F32, FaceDetector, QualityScorer, RgbU8
from hifimodel.errors import ConditionError
from hifimodel.faces.clip_crop import scaled_points
from hifimodel.faces.photo import (
    PhotoFace,
    Preparation,
    Reference,
    prepare_reference,
    prepare_target,
    read_photo,
)
from hifimodel.faces.recogniser import IdentityEmbedder
from hifimodel.faces.selection import pose_from_kps, select_reference
from hifimodel.landmarks import FaceShape, LandmarkBackend, draw

MAX_REFERENCES = 6
"""The paper trains with 1 to 4 references and shows up to 6."""

SIDE_OVER_FACE, CENTRE_UP = 2.4, 0.15
"""Framing of hifidata's portraits: side of the square over the longer side of the face box, and its shift upwards."""


@dataclass(frozen=True, eq=False)
class PortraitCondition:
    """The condition of a portrait: identity, and expression with head pose.

    Args:
        clip_crops_u8: (N, 3, H, W) uint8 RGB, 1 to 6 reference faces for CLIP; None: no references.
        embeddings: (N, d2) float32, L2 norm 1, of the same references; None without references.
        landmarks_u8: (3, H, W) uint8 RGB on black, in the size of the portrait; None: no landmarks.

    Raises:
        ConditionError: the parts do not match, there are more than 6 references, or all parts are None.
    """

    clip_crops_u8: Tensor | None
    embeddings: Tensor | None
    landmarks_u8: Tensor | None

    def __post_init__(self) -> None:
        crops, embeddings = self.clip_crops_u8, self.embeddings
        if (crops is None) != (embeddings is None):
            raise ConditionError("portrait condition: face crops and embeddings belong together; give both, or neither")
        if crops is None and self.landmarks_u8 is None:
            raise ConditionError(
                "portrait condition: neither references nor landmarks; call the pipeline without a condition for the base "
                "model alone"
            )
        if crops is not None and embeddings is not None:
            require_reference_count(len(crops))
            if len(crops) != len(embeddings):
                raise ConditionError(
                    f"portrait condition: {len(crops)} face crops and {len(embeddings)} embeddings; give one of each per "
                    "reference"
                )

    @property
    def n_references(self) -> int:
        """N, the number of references."""
        return 0 if self.clip_crops_u8 is None else len(self.clip_crops_u8)


@dataclass(frozen=True, eq=False)
class PhotoReader:
    """Reads photos into conditions.

    Args:
        detector: face detector.
        identity: embedder, as in training.
        quality: S_q of Eq. 9.
        landmarks: landmark backend.
        how: matting and crops of references; None: the default crop, no matting.
    """

    detector: FaceDetector
    identity: IdentityEmbedder
    quality: QualityScorer
    landmarks: LandmarkBackend
    how: Preparation | None = None

    def read(self, references: Sequence[Path], target: Path | None, size_px: int) -> PortraitCondition:
        """Read the condition of one portrait.

        Args:
            references: up to 6 photos of one person; none for landmarks only.
            target: photo that gives the expression and head pose; None: no landmarks.
            size_px: side of the portrait.

        Raises:
            ConditionError: too many references, or neither references nor target.
            PhotoError: a file is not an image, a reference has no face, or the target has none or several.
        """
        if references:
            require_reference_count(len(references))
        faces = [self.read_reference(path) for path in references]
        drawn = None if target is None else self.draw_landmarks(faces, self.read_target(target), size_px)
        landmarks_u8 = None if drawn is None else channels_first(drawn)  # (3, H, W)
        if not faces:
            return PortraitCondition(None, None, landmarks_u8)
        crops_u8 = torch.stack([channels_first(face.clip_rgb_u8) for face in faces])  # (N, 3, 224, 224)
        return PortraitCondition(crops_u8, self.identity.embed(faces), landmarks_u8)

    def read_reference(self, path: Path) -> Reference:
        """Read a reference. Raises PhotoError."""
        return prepare_reference(path.name, read_photo(path), self.detector, self.how)

    def read_target(self, path: Path) -> PhotoFace:
        """Read the target. Raises PhotoError."""
        return prepare_target(path.name, read_photo(path), self.detector, self.how)

    def draw_landmarks(self, references: Sequence[Reference], target: PhotoFace, size_px: int) -> RgbU8:
        """Draw I_lmk: the face shape of the best reference, expression and pose of the target, framed as a portrait.

        Returns:
            (size_px, size_px, 3) uint8.

        Source: paper section 3.3, Eq. 9.
        """
        if not references:  # without references: the shape of the target
            return self._drawn(self._encode(target), target, size_px)
        poses = [pose_from_kps(reference.face.kps_px) for reference in references]
        qualities = [self._quality(reference.face) for reference in references]
        best = references[select_reference(qualities, poses, pose_from_kps(target.kps_px))]
        return self._drawn(self.landmarks.swap(self._encode(best.face), self._encode(target)), target, size_px)

    def _encode(self, face: PhotoFace) -> FaceShape:
        return self.landmarks.encode(face.rgb_u8, face.kps_px, face.landmarks_px)

    def _quality(self, face: PhotoFace) -> float:
        score = self.quality.score(face.rgb_u8, face.xyxy_px, face.kps_px, face.landmarks_px)["quality_score"]
        return 0.0 if score is None else float(score)

    def _drawn(self, shape: FaceShape, target: PhotoFace, size_px: int) -> RgbU8:
        corner, scale = portrait_window(target, size_px)
        return draw(scaled_points(self.landmarks.project(shape), scale, corner), size_px)


def require_reference_count(n_references: int) -> None:
    """Raise ConditionError unless there are 1 to 6 references."""
    if not 1 <= n_references <= MAX_REFERENCES:
        raise ConditionError(
            f"references: got {n_references}, expected 1 to {MAX_REFERENCES} photos of one person; keep the best"
        )


def portrait_window(target: PhotoFace, size_px: int) -> tuple[F32, float]:
    """Return the window of the portrait in the target photo: its corner in px, and portrait pixels per photo pixel.

    A square photo, such as a portrait of hifidata, keeps its framing. Other photos are framed as in hifidata, except that the
    square may extend beyond the photo, whose pixels are not needed.
    """
    height_px, width_px = target.rgb_u8.shape[:2]
    if height_px == width_px:
        return np.zeros(2, np.float32), size_px / width_px
    low, high = target.xyxy_px[:2], target.xyxy_px[2:]
    face_px = float((high - low).max())
    side_px = face_px * SIDE_OVER_FACE
    centre = (low + high) / 2 - np.array([0, face_px * CENTRE_UP], np.float32)
    return (centre - side_px / 2).astype(np.float32), size_px / side_px


def channels_first(rgb_u8: RgbU8) -> Tensor:
    """Convert an (H, W, 3) image to a (3, H, W) uint8 tensor."""
    return torch.from_numpy(np.ascontiguousarray(rgb_u8.transpose(2, 0, 1)))
