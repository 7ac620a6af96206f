"""Identity embeddings of networks that were trained with the ArcFace loss, or one like it.

Input: (n, 3, 112, 112) float32 RGB, the face aligned by five points; the normalisation depends on the network. Output: (n, d)
float32, which we scale to L2 norm 1.

Source: Deng et al., ArcFace, CVPR 2019; https://github.com/deepinsight/insightface. The paper (section 3.4) uses InsightFace's
embeddings with a similarity above 0.7.
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
"""Minimum length of an embedding. Published networks have 128 or 512; a shorter output belongs to another kind of network."""

NORMALISATIONS: Mapping[Normalisation, tuple[F32, F32]] = {
    "minus_one_to_one": (np.full(3, 127.5, np.float32), np.full(3, 127.5, np.float32)),
    "zero_to_one": (np.zeros(3, np.float32), np.full(3, 255, np.float32)),
    "zero_to_255": (np.zeros(3, np.float32), np.ones(3, np.float32)),
    "imagenet": (np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)),
}
"""Mean and standard deviation for RGB pixels in 0..255."""


class ArcFace:
    """Computes embeddings with InsightFace's ``w600k_r50``: RGB in -1..1, 512 values.

    Args:
        weights: the graph; a graph with an open batch runs in batches.
        settings: recipe section with a normalisation for the user's own file.

    Raises:
        WeightsError: the graph has other inputs, or its output is not an embedding.
    """

    name = "arcface"
    mean, deviation = NORMALISATIONS["minus_one_to_one"]

    def __init__(self, weights: Path, settings: EmbedderConfig | None = None) -> None:
        if settings is not None and settings.normalisation is not None:
            self.mean, self.deviation = NORMALISATIONS[settings.normalisation]
        self._graph = OnnxModel(weights, inputs=[(None, 3, CHIP_PX, CHIP_PX)], outputs=[(None,)])
        for vector in self._graph.blank_outputs[:1]:
            if vector.size < MIN_DIMENSIONS:
                raise WeightsError(
                    f"{weights}: not a graph of {self.name}: it gives {vector.size} values for a face, expected an embedding of "
                    f"{MIN_DIMENSIONS} or more; {right_file(weights)}"
                )

    def embed(self, pictures: Sequence[RgbU8], kps_px: Sequence[F32], landmarks_px: Sequence[F32 | None]) -> F32:
        """Embed the main face of each image; returns (n, d) float32 with L2 norm 1. The 68 landmarks are not used.

        Raises:
            ModelError: five points coincide, the network failed, or its output is zero or not finite.
        """
        if not pictures:
            return np.empty((0, 0), np.float32)
        chips = np.stack([norm_crop(*face) for face in zip(pictures, kps_px, strict=True)])  # (n, 112, 112, 3)
        pixels = ((chips - self.mean) / self.deviation).transpose(0, 3, 1, 2)  # (n, 3, 112, 112)
        batch = self._graph.batch or len(pixels)
        rows = [
            self._graph(np.ascontiguousarray(pixels[start : start + batch]))[0]
            for start in range(0, len(pixels), batch)
        ]
        vectors = np.concatenate(rows).astype(np.float32)  # (n, d)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise ModelError(f"{self.name}: the network gave an embedding that is zero or not finite")
        return np.asarray(vectors / lengths, np.float32)


class ArcFaceGlint(ArcFace):
    """InsightFace's ``glintr100`` of antelopev2: RGB in -1..1, 512 values."""

    name = "arcface_glintr100"


class MobileFaceNet(ArcFace):
    """A MobileFaceNet that was trained with ImageNet's mean and standard deviation: 128 values."""

    name = "mobilefacenet"
    mean, deviation = NORMALISATIONS["imagenet"]


class SFace(ArcFace):
    """OpenCV Zoo's ``face_recognition_sface_2021dec``, a MobileFaceNet with its own normalisation inside: RGB in 0..255, 128 values.

    Source: Zhong et al., SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition, IEEE TIP 2021.
    """

    name = "sface"
    mean, deviation = NORMALISATIONS["zero_to_255"]
