"""Base of the face quality networks that take an ArcFace-aligned face."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hifidata.core.errors import ModelError, WeightsError
from hifidata.image.align import CHIP_PX, norm_crop
from hifidata.models.protocols import F32, RgbU8
from hifidata.models.runtime.onnx import OnnxModel
from hifidata.weights.messages import right_file


class AlignedQuality:
    """Runs a graph from (1, 3, 112, 112) RGB in -1 to 1 to a quality of about 0 to 1; higher is better.

    Attributes:
        n_values: number of outputs per face; None: any number.
        slack: tolerance below 0 and above 1; a value beyond it is not a quality.

    Args:
        weights: the graph.

    Raises:
        WeightsError: the graph does not take faces of 112 px, or gives no quality for a blank face.
    """

    name: str
    n_values: int | None
    slack: float

    def __init__(self, weights: Path) -> None:
        self._graph = OnnxModel(weights, [(None, 3, CHIP_PX, CHIP_PX)])
        for blank in self._graph.try_out([])[:1]:
            is_row = blank.size == 1 or blank.shape[:-1] == (1,)  # the scores of a detector have more rows or axes
            count_fits = is_row and self.n_values in (None, blank.size)
            if not count_fits or not self._is_quality(blank):
                expected = "a row of numbers" if self.n_values is None else f"{self.n_values} number"
                raise WeightsError(
                    f"{weights}: no graph of {self.name}: for a blank face it gives {blank.size} numbers from "
                    f"{_ends(blank)} in output {blank.shape}, expected {expected} from 0 to 1; "
                    f"{right_file(weights)}"
                )

    def score(self, picture: RgbU8, xyxy_px: F32, kps_px: F32, landmarks_px: F32 | None) -> Mapping[str, float | None]:
        """Return ``quality_score``: the mean of the first output.

        Raises:
            ModelError: the points coincide, or the network fails or gives no quality.
        """
        pixels = norm_crop(picture, kps_px).astype(np.float32) / np.float32(127.5) - np.float32(1)  # (112, 112, 3)
        output = self._graph(np.ascontiguousarray(pixels.transpose(2, 0, 1))[None])[0]  # (1, ...)
        if not self._is_quality(output):
            raise ModelError(
                f"{self._graph.path.name}: expected numbers from 0 to 1, got {_ends(output)} in output {output.shape}"
            )
        return {"quality_score": float(np.asarray(output, np.float64).mean())}

    def _is_quality(self, output: F32) -> bool:
        """Return whether there are values and all are in the range of a quality."""
        return bool(output.size and ((output >= -self.slack) & (output <= 1 + self.slack)).all())  # False for NaN


def _ends(output: F32) -> str:
    return f"{output.min():.3g} to {output.max():.3g}" if output.size else "none"
