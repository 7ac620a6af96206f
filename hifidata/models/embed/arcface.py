"""Identity vectors by networks trained with ArcFace's loss, from the face aligned to 112 px by five points.

Source: Deng et al., ArcFace, CVPR 2019. Paper, section 3.4: InsightFace's embeddings, similarity above 0.7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hifidata.core.errors import ModelError, WeightsError
from hifidata.image.align import CHIP_PX, norm_crop
from hifidata.models.config import EmbedderConfig, Normalisation
from hifidata.models.protocols import F32, RgbU8
from hifidata.models.runtime.onnx import OnnxModel
from hifidata.weights.messages import right_file

MIN_DIMENSIONS = 32
"""Of an identity vector; published ones have 128 or 512. What gives fewer numbers measures something else."""

NORMALISATIONS: Mapping[Normalisation, tuple[F32, F32]] = {
    "minus_one_to_one": (np.full(3, 127.5, np.float32), np.full(3, 127.5, np.float32)),
    "zero_to_one": (np.zeros(3, np.float32), np.full(3, 255, np.float32)),
    "zero_to_255": (np.zeros(3, np.float32), np.ones(3, np.float32)),
    "imagenet": (np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)),
}
"""Mean and deviation that are taken from RGB pixels of 0 to 255."""


class ArcFace:
    """An ONNX graph from (n, 3, 112, 112) RGB in -1 to 1 to (n, d): insightface's recognition models.

    Args:
        weights: the graph; runs in batches where it leaves the first size open.
        settings: a normalisation in place of the class's.

    Raises:
        WeightsError: the graph does not take faces of 112 px, or gives no vectors.
    """

    name = "arcface"
    mean, deviation = NORMALISATIONS["minus_one_to_one"]

    def __init__(self, weights: Path, settings: EmbedderConfig | None = None) -> None:
        if settings is not None and settings.normalisation is not None:
            self.mean, self.deviation = NORMALISATIONS[settings.normalisation]
        self._graph = OnnxModel(weights, [(None, 3, CHIP_PX, CHIP_PX)])
        for vector in self._graph.try_out([(None,)])[:1]:
            if vector.size < MIN_DIMENSIONS:
                raise WeightsError(
                    f"{weights}: no graph of {self.name}: it gives {vector.size} numbers for a face, an identity vector has "
                    f"{MIN_DIMENSIONS} or more; {right_file(weights)}"
                )

    def embed(self, pictures: Sequence[RgbU8], kps_px: Sequence[F32], landmarks_px: Sequence[F32 | None]) -> F32:
        """(n, d) float32 with L2 norm 1, one row per picture; the 68 landmarks are not used.

        Raises:
            ModelError: five points coincide, the network broke, or its vector has no length.
        """
        if not pictures:
            return np.empty((0, 0), np.float32)
        chips = np.stack([norm_crop(*face) for face in zip(pictures, kps_px, strict=True)])  # (n, 112, 112, 3)
        pixels = ((chips - self.mean) / self.deviation).transpose(0, 3, 1, 2)  # (n, 3, 112, 112)
        at_once = self._graph.batch or len(pixels)
        rows = [
            self._graph(np.ascontiguousarray(pixels[start : start + at_once]))[0]
            for start in range(0, len(pixels), at_once)
        ]
        vectors = np.concatenate(rows).astype(np.float32)  # (n, d)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise ModelError(f"{self.name}: the network gave a vector without length or direction")
        return np.asarray(vectors / lengths, np.float32)


class ArcFaceGlint(ArcFace):
    """``glintr100`` of antelopev2."""

    name = "arcface_glintr100"


class MobileFaceNet(ArcFace):
    """A small network that was trained with ImageNet's mean and deviation."""

    name = "mobilefacenet"
    mean, deviation = NORMALISATIONS["imagenet"]
