"""MODNet: portrait matting without a trimap, including hair.

Input: (n, 3, H, W) float32 RGB in -1..1, sides in multiples of 32. Output: alpha (n, 1, H, W) in 0..1.

Source: Ke et al., MODNet, AAAI 2022; https://github.com/ZHKKKe/MODNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hifidata.models.matting.resize import to_alpha, to_network, work_size
from hifidata.models.protocols import F32, RgbU8
from hifidata.models.runtime.onnx import OnnxModel


class ModNet:
    """Computes alpha mattes with MODNet.

    Args:
        weights: ``modnet_photographic.onnx``.

    Raises:
        WeightsError: the graph has other inputs.
    """

    name = "modnet"

    def __init__(self, weights: Path) -> None:
        self._graph = OnnxModel(weights, inputs=[(None, 3, None, None)])

    def matte(self, pictures: Sequence[RgbU8]) -> list[F32]:
        """Compute the alpha (H, W) float32 of each image, 0 background to 1 person. Raises ModelError."""
        alphas = []
        for picture in pictures:
            size = work_size(picture.shape[1], picture.shape[0], enlarge=True)
            alphas.append(to_alpha(self._graph(to_network(picture, size))[0], size, picture, self.name))
        return alphas
