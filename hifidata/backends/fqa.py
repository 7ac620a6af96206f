"""ModelScope's face quality assessment, its ONNX graph alone: the scorer of the paper, with the paper's threshold.

ModelScope's own pipeline adds a second face detector and picks its largest face; here the face is the one that was
detected. Both align to the ArcFace template, so the network sees the same picture.

Source: paper, section 3.4 (scores below 0.45 are removed) and ModelScope's ``cv_manual_face-quality-assessment_fqa``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hifidata.backends.aligned_quality import FACES_IN, mean_output
from hifidata.backends.base import F32, RgbU8
from hifidata.backends.onnx_model import OnnxModel


class ModelScopeFqa:
    """About 0 to 1, higher is better: the mean of the network's output vector.

    Args:
        weights: ``model.onnx`` of the ModelScope repository.

    Raises:
        WeightsError: the graph does not take faces of 112 px.
    """

    name = "modelscope_fqa"

    def __init__(self, weights: Path) -> None:
        self._graph = OnnxModel(weights, FACES_IN)

    def score(self, picture: RgbU8, xyxy_px: F32, kps_px: F32, landmarks_px: F32 | None) -> Mapping[str, float | None]:
        """``quality_score``. Raises ModelError where the points coincide or the network breaks."""
        return {"quality_score": mean_output(self._graph, picture, kps_px)}
