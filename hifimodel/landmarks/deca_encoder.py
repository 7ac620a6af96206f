"""DECA's coarse encoder: a ResNet-50 and two linear layers, from the tensors of its checkpoint. Needs torch."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hifidata.models.protocols import F32
from hifimodel.errors import LandmarkError, one_line

BLOCKS = {"layer1": 3, "layer2": 4, "layer3": 6, "layer4": 3}


class DecaEncoder:
    """Encodes a crop to the 236 coefficients of DECA.

    Args:
        path: ``deca_model.tar``, loaded with ``weights_only=True``.
        n_codes: expected number of outputs.

    Raises:
        LandmarkError: the file is missing, not such a checkpoint, or has other layers.
    """

    def __init__(self, path: Path, n_codes: int) -> None:
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
            self._weights: Mapping[str, Tensor] = stored["E_flame"]
            n_got = len(self._weights["layers.2.bias"])
        except FileNotFoundError:
            raise LandmarkError(f"{path} is missing; download it manually, see DECA's repository") from None
        except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
            line = one_line(error)
            raise LandmarkError(f"{path}: no DECA checkpoint with E_flame ({line}); download it again") from error
        if n_got != n_codes:
            raise LandmarkError(f"{path}: its encoder gives {n_got} numbers, expected {n_codes}")

    @torch.inference_mode()
    def __call__(self, crop: F32) -> F32:
        """Encode one (224, 224, 3) float32 RGB crop, 0 to 1, to (236,) float32."""
        x = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))[None]  # (1, 3, 224, 224)
        try:
            x = F.relu(self._normalised("encoder.bn1", self._convolved("encoder.conv1", x, stride=2, padding=3)))
            x = F.max_pool2d(x, 3, stride=2, padding=1)  # (1, 64, 56, 56)
            for layer, n_blocks in BLOCKS.items():
                for block in range(n_blocks):
                    stride = 2 if block == 0 and layer != "layer1" else 1
                    x = self._bottleneck(f"encoder.{layer}.{block}", x, stride)
            x = F.relu(self._linear("layers.0", x.mean(dim=(2, 3))))  # (1, 2048, 7, 7) -> (1, 1024)
            codes: F32 = self._linear("layers.2", x)[0].numpy()
        except KeyError as error:
            raise LandmarkError(f"deca_model.tar: E_flame has no tensor {error}; expected a ResNet-50") from error
        return codes

    def _bottleneck(self, name: str, x: Tensor, stride: int) -> Tensor:
        y = F.relu(self._normalised(f"{name}.bn1", self._convolved(f"{name}.conv1", x)))
        y = F.relu(self._normalised(f"{name}.bn2", self._convolved(f"{name}.conv2", y, stride=stride, padding=1)))
        y = self._normalised(f"{name}.bn3", self._convolved(f"{name}.conv3", y))
        if f"{name}.downsample.0.weight" in self._weights:
            x = self._normalised(f"{name}.downsample.1", self._convolved(f"{name}.downsample.0", x, stride=stride))
        return F.relu(x + y)

    def _convolved(self, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, self._weights[f"{name}.weight"], stride=stride, padding=padding)

    def _normalised(self, name: str, x: Tensor) -> Tensor:
        mean, variance, scale, shift = (
            self._weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, scale, shift)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])
