"""LightQNet: face quality for recognition, by a network of 0.6 MB.

Input: (1, 3, 96, 96) float32 BGR in -1..1, an aligned face. Output: (1, 1), 0..1; real faces are between 0.3 and 0.62.

It detects covered, turned and very dark faces, but almost no blur; see docs/quality.md before you use it alone.

Source: Chen et al., LightQNet, IEEE SPL 2021. Our use: OpenCV runs the TensorFlow graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from hifidata.core.errors import ModelError, WeightsError
from hifidata.image.align import norm_crop
from hifidata.models.protocols import F32, RgbU8
from hifidata.weights.messages import right_file
from hifidata.weights.sanity import problem_of

SIDE_PX = 96
"""Side of the input. The authors align by eyes and mouth only, to the positions of the ArcFace template."""


class LightQNet:
    """Scores faces with LightQNet.

    Args:
        weights: ``lightqnet-dm050.pb`` or a wider network.

    Raises:
        WeightsError: the file is not a complete TensorFlow graph, or another graph.
    """

    name = "lightqnet"

    def __init__(self, weights: Path) -> None:
        if problem := problem_of(weights, ".pb"):
            raise WeightsError(
                f"{weights}: not a complete TensorFlow graph of LightQNet: {problem}; {right_file(weights)}"
            )
        try:
            self._net = cv2.dnn.readNetFromTensorflow(str(weights))
            outputs = self._forward(np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8))
        except cv2.error as error:
            raise WeightsError(
                f"{weights}: not a complete TensorFlow graph of LightQNet: {' '.join(str(error).split())}; "
                f"{right_file(weights)}"
            ) from error
        if outputs.size != 1:
            raise WeightsError(
                f"{weights}: another graph than expected: output {outputs.shape}, expected one score; {right_file(weights)}"
            )

    def score(self, picture: RgbU8, xyxy_px: F32, kps_px: F32, landmarks_px: F32 | None) -> Mapping[str, float | None]:
        """Return ``quality_score``. Raises ModelError if the points coincide or the network fails."""
        try:
            score = float(self._forward(norm_crop(picture, kps_px, SIDE_PX)).item())
        except cv2.error as error:
            raise ModelError(f"{self.name}: OpenCV refused a face: {' '.join(str(error).split())}") from error
        if not np.isfinite(score):
            raise ModelError(f"{self.name}: expected a finite score, got {score}")
        return {"quality_score": score}

    def _forward(self, chip: RgbU8) -> F32:
        """Run the network on an RGB face (96, 96, 3); swapRB converts it to BGR."""
        self._net.setInput(cv2.dnn.blobFromImage(chip, 1 / 128, (SIDE_PX, SIDE_PX), (128, 128, 128), swapRB=True))
        return np.asarray(self._net.forward(), np.float32)
