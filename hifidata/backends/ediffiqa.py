"""eDifFIQA: face quality distilled from a diffusion model's difficulty with a face; weights under CC-BY-4.0.

Source: Babnik et al., eDifFIQA, IEEE TBIOM 2024; the graphs of OpenCV's model zoo, whose page puts good faces above 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hifidata.backends.aligned_quality import FACES_IN, mean_output
from hifidata.backends.base import F32, RgbU8
from hifidata.backends.onnx_model import OnnxModel


class EDifFiqa:
    """About 0 to 1, higher is better.

    Args:
        weights: any of the sizes T, S, M and L.

    Raises:
        WeightsError: the graph does not take faces of 112 px.
    """

    name = "ediffiqa"

    def __init__(self, weights: Path) -> None:
        self._graph = OnnxModel(weights, FACES_IN)

    def score(self, picture: RgbU8, xyxy_px: F32, kps_px: F32, landmarks_px: F32 | None) -> Mapping[str, float | None]:
        """``quality_score``. Raises ModelError where the points coincide or the network breaks."""
        return {"quality_score": mean_output(self._graph, picture, kps_px)}
