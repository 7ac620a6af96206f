"""MODNet: portrait matting without a trimap, hair included, as an ONNX graph.

Source: Ke et al., MODNet, AAAI 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hifidata.models.matting.resize import to_alpha, to_network, work_size
from hifidata.models.protocols import F32, RgbU8
from hifidata.models.runtime.onnx import OnnxModel


class ModNet:
    """A graph from (n, 3, H, W) RGB in -1 to 1 to an alpha (n, 1, H, W), sides multiples of 32.

    Args:
        weights: ``modnet_photographic.onnx``.

    Raises:
        WeightsError: the graph takes other pictures.
    """

    name = "modnet"

    def __init__(self, weights: Path) -> None:
        self._graph = OnnxModel(weights, [(None, 3, None, None)])

    def matte(self, pictures: Sequence[RgbU8]) -> list[F32]:
        """One alpha (H, W) float32 per picture, 0 background to 1 person. Raises ModelError."""
        alphas = []
        for picture in pictures:
            size = work_size(picture.shape[1], picture.shape[0], enlarge=True)
            alphas.append(to_alpha(self._graph(to_network(picture, size))[0], size, picture, self.name))
        return alphas
