"""Interfaces between stages and models: one protocol per role. A model file implements one or more protocols.

Images are ``rgb_u8``: (H, W, 3) uint8 sRGB with EXIF orientation applied. Coordinates are pixels of the image, x right, y
down, not rounded. Models never modify their input arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hifidata.core.schema import CaptionProblem

RgbU8 = NDArray[np.uint8]
F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Faces:
    """Faces of one image, largest box first.

    Attributes:
        xyxy_px: (n, 4) float32; may extend outside the image.
        scores: (n,) float32; the scale depends on the detector.
        kps_px: (n, 5, 2) float32: left eye, right eye, nose tip, left and right mouth corner ("left" = smaller x on an
            upright face).
        landmarks_px: (n, 68, 2) float32 in iBUG-300W order; None if the detector gives no landmarks.
    """

    xyxy_px: F32
    scores: F32
    kps_px: F32
    landmarks_px: F32 | None


@dataclass(frozen=True)
class TextRegions:
    """Text found in one image.

    Attributes:
        quads_px: (n, 4, 2) float32 corners, clockwise from top left.
        texts: n recognised strings; a placeholder for text that could not be read.
        scores: (n,) float32 detection scores, 0 to 1.
    """

    quads_px: F32
    texts: tuple[str, ...]
    scores: F32


@dataclass(frozen=True)
class GenderAge:
    """Predicted gender and age of one face.

    Attributes:
        gender: ``female`` or ``male``.
        age: years.
    """

    gender: str
    age: float


@dataclass(frozen=True)
class OcclusionAnswer:
    """The answer of an occlusion model for one face.

    Attributes:
        answer: unchanged text of the model.
        terms: objects that cover the face; () for none. None: ``answer`` is a description, and the stage searches it for
            the recipe's terms.
        score: confidence in ``terms``, 0 to 1; None if the model gives no score.
    """

    answer: str
    terms: tuple[str, ...] | None
    score: float | None


@dataclass(frozen=True)
class Description:
    """The caption of one portrait.

    Attributes:
        text: one line; None without a usable text.
        problem: reason for a missing or incomplete text.
    """

    text: str | None
    problem: CaptionProblem | None = None


class FaceDetector(Protocol):
    """Detects faces and their five points."""

    name: str

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        """Detect the faces of each image. Raises ModelError if the model fails."""


class FaceEmbedder(Protocol):
    """Computes identity embeddings of faces."""

    name: str

    def embed(self, pictures: Sequence[RgbU8], kps_px: Sequence[F32], landmarks_px: Sequence[F32 | None]) -> F32:
        """Embed the main face of each image.

        Args:
            pictures: n images.
            kps_px: (5, 2) for each image.
            landmarks_px: (68, 2) or None for each image.

        Returns:
            (n, d) float32 with L2 norm 1.
        """


class QualityScorer(Protocol):
    """Scores the quality of a face."""

    name: str

    def score(self, picture: RgbU8, xyxy_px: F32, kps_px: F32, landmarks_px: F32 | None) -> Mapping[str, float | None]:
        """Return manifest columns: ``quality_score`` (0 to 1) and the scorer's components."""


class AttributeEstimator(Protocol):
    """Predicts gender and age of a face."""

    name: str

    def estimate(self, pictures: Sequence[RgbU8], xyxy_px: Sequence[F32], kps_px: Sequence[F32]) -> list[GenderAge]:
        """Predict gender and age for the main face of each image: its box (4,) and five points (5, 2)."""


class TextRecognizer(Protocol):
    """Detects and recognises text."""

    name: str

    def find(self, pictures: Sequence[RgbU8]) -> list[TextRegions]:
        """Find the text of each image; coordinates are pixels of the image."""


class OcclusionChecker(Protocol):
    """Checks for objects in front of a face."""

    name: str

    def check(self, pictures: Sequence[RgbU8], xyxy_px: Sequence[F32]) -> list[OcclusionAnswer]:
        """Check the main face box (4,) of each image. Raises ModelError if the model fails."""


class Restorer(Protocol):
    """Restores faces aligned to the FFHQ template of 512 px."""

    name: str

    def restore(self, faces: Sequence[RgbU8]) -> list[F32]:
        """Restore faces.

        Args:
            faces: (512, 512, 3) uint8 each.

        Returns:
            Output of the network for each face, scaled to 0..255. The caller checks its size and for NaN.

        Raises:
            ModelError: the network failed.
        """


class Matter(Protocol):
    """Separates a person from the background."""

    name: str

    def matte(self, pictures: Sequence[RgbU8]) -> list[F32]:
        """Compute the alpha (H, W) float32 of each image, 0 background to 1 person. Raises ModelError."""


class Captioner(Protocol):
    """Describes portraits.

    Attributes:
        batch_size: best number of portraits per call.
    """

    name: str
    batch_size: int

    def describe(self, portraits: Sequence[RgbU8]) -> list[Description]:
        """Describe each portrait.

        Raises:
            ModelError: the model failed.
            ServiceError: the caption server is not available.
        """
