"""What face quality networks on the ArcFace alignment share: one face in, the mean of what comes out."""

from __future__ import annotations

import numpy as np

from hifidata.backends.base import F32, RgbU8
from hifidata.backends.onnx_model import OnnxModel
from hifidata.errors import ModelError
from hifidata.image.align import CHIP_PX, norm_crop

FACES_IN = [(None, 3, CHIP_PX, CHIP_PX)]
"""What such a graph takes: RGB in -1 to 1."""


def mean_output(graph: OnnxModel, picture: RgbU8, kps_px: F32) -> float:
    """The mean of the graph's first output for one face.

    Args:
        graph: takes ``FACES_IN``.
        picture: (H, W, 3) uint8.
        kps_px: (5, 2) eyes, nose tip and mouth corners.

    Raises:
        ModelError: the five points coincide, or the network gave no number.
    """
    pixels = norm_crop(picture, kps_px).astype(np.float32) / np.float32(127.5) - np.float32(1)  # (112, 112, 3)
    output = graph(np.ascontiguousarray(pixels.transpose(2, 0, 1))[None])[0]  # (1, ...)
    score = float(np.asarray(output, np.float64).mean()) if output.size else float("nan")
    if not np.isfinite(score):
        raise ModelError(f"{graph.path.name}: expected a finite score, got {score} from output {output.shape}")
    return score
