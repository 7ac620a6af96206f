"""What a stage asks of the model behind it. One protocol per role; each backend file implements one or more of them.

All pictures are ``rgb_u8``: (H, W, 3) uint8 sRGB, EXIF orientation already applied. All coordinates are pixels of that
picture, x right, y down, not rounded. Backends never modify the arrays they are given.
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
    """Faces of one picture, largest box first.

    Attributes:
        xyxy_px: (n, 4) float32; may reach outside the picture.
        scores: (n,) float32, on the detector's own scale.
        kps_px: (n, 5, 2) float32: left eye, right eye, nose tip, left and right mouth corner ("left" = smaller x on an
            upright face).
        landmarks_px: (n, 68, 2) float32 in the iBUG-300W order, or None where the detector has none.
    """

    xyxy_px: F32
    scores: F32
    kps_px: F32
    landmarks_px: F32 | None


@dataclass(frozen=True)
class TextRegions:
    """Text found in one picture.

    Attributes:
        quads_px: (n, 4, 2) float32 corners, clockwise from top left.
        texts: n recognised strings, or a word for what could not be read.
        scores: (n,) float32, how certain it is that this is text, 0 to 1.
    """

    quads_px: F32
    texts: tuple[str, ...]
    scores: F32


@dataclass(frozen=True)
class GenderAge:
    """A model's guess about one face.

    Attributes:
        gender: ``female`` or ``male``.
        age: years.
    """

    gender: str
    age: float


@dataclass(frozen=True)
class OcclusionAnswer:
    """What a model says about things before one face.

    Attributes:
        answer: in the model's words; kept as it is.
        terms: what it names as covering the face, () for nothing; None for a free description, in which the recipe's
            terms are looked for.
        score: confidence in ``terms``, 0 to 1; None where the model gives none.
    """

    answer: str
    terms: tuple[str, ...] | None
    score: float | None


@dataclass(frozen=True)
class Description:
    """What a captioner says about one portrait.

    Attributes:
        text: one line; None where it gave nothing that can be used.
        problem: why there is no text, or only part of one.
    """

    text: str | None
    problem: CaptionProblem | None = None


class FaceDetector(Protocol):
    """Finds faces."""

    name: str

    def detect(self, pictures: Sequence[RgbU8]) -> list[Faces]:
        """One ``Faces`` per picture. Raises ModelError where the model breaks."""


class FaceEmbedder(Protocol):
    """Turns aligned faces into identity vectors."""

    name: str

    def embed(self, pictures: Sequence[RgbU8], kps_px: Sequence[F32], landmarks_px: Sequence[F32 | None]) -> F32:
        """(n, d) float32 with L2 norm 1, one row per picture; kps (5, 2), landmarks (68, 2) of its main face."""


class QualityScorer(Protocol):
    """Scores a face picture."""

    name: str

    def score(self, picture: RgbU8, xyxy_px: F32, kps_px: F32, landmarks_px: F32 | None) -> Mapping[str, float | None]:
        """Manifest columns: always ``quality_score`` (0 to 1), and whatever components the scorer has."""


class AttributeEstimator(Protocol):
    """Guesses gender and age from a face."""

    name: str

    def estimate(self, pictures: Sequence[RgbU8], xyxy_px: Sequence[F32]) -> list[GenderAge]:
        """One guess per picture, for the box (4,) of its main face."""


class TextRecognizer(Protocol):
    """Finds and reads text."""

    name: str

    def find(self, pictures: Sequence[RgbU8]) -> list[TextRegions]:
        """One ``TextRegions`` per picture, coordinates in that picture's pixels."""


class OcclusionChecker(Protocol):
    """Looks for things before a face."""

    name: str

    def check(self, pictures: Sequence[RgbU8], xyxy_px: Sequence[F32]) -> list[OcclusionAnswer]:
        """One answer per picture, for the box (4,) of its main face. Raises ModelError where the model breaks."""


class Restorer(Protocol):
    """Restores faces aligned to the FFHQ template of 512 px."""

    name: str

    def restore(self, faces: Sequence[RgbU8]) -> list[F32]:
        """As the network gives them, in 0 to 255 and unchecked: the caller looks at sizes and for NaN.

        Args:
            faces: (512, 512, 3) uint8 each.

        Raises:
            ModelError: the network did not run.
        """


class Matter(Protocol):
    """Tells a person from the background."""

    name: str

    def matte(self, pictures: Sequence[RgbU8]) -> list[F32]:
        """One alpha (H, W) float32 per picture, 0 background to 1 person. Raises ModelError where the model breaks."""


class Captioner(Protocol):
    """Describes portraits.

    Attributes:
        batch_size: portraits it likes to be given at once.
    """

    name: str
    batch_size: int

    def describe(self, portraits: Sequence[RgbU8]) -> list[Description]:
        """One description per portrait. Raises ModelError where the model breaks, ServiceError where its server is gone."""
