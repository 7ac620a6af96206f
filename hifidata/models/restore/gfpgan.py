"""GFPGAN v1.4: blind face restoration, as an ONNX graph or from the published PyTorch file.

Input: (1, 3, 512, 512) float32 RGB in -1..1, a face aligned to the FFHQ template. Output: the same shape and range.

Source: Wang et al., GFPGAN, CVPR 2021; https://github.com/TencentARC/GFPGAN. The paper (section 3.4) uses GFPGAN for face
restoration. Our use: without GFPGAN's package, because it loads its own detector and face parser, and imports a module that
torchvision has removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

from hifidata.core.errors import ModelError, UsageError, WeightsError
from hifidata.image.ffhq_align import SIDE_PX
from hifidata.models.protocols import F32, RgbU8
from hifidata.models.requirements import SPANDREL
from hifidata.models.runtime.onnx import OnnxModel


class Gfpgan:
    """Restores faces with the ONNX graph, one face per call.

    Args:
        weights: ``GFPGANv1.4.onnx``.

    Raises:
        WeightsError: the graph has other inputs.
    """

    name = "gfpgan"

    def __init__(self, weights: Path) -> None:
        self._graph = OnnxModel(weights, inputs=[(None, 3, SIDE_PX, SIDE_PX)])

    def restore(self, faces: Sequence[RgbU8]) -> list[F32]:
        """Restore faces; returns unchecked outputs, normally (512, 512, 3) float32 in 0..255. Raises ModelError."""
        return [to_levels(self._graph(to_network(face))[0]) for face in faces]


class GfpganTorch:
    """Restores faces with the published ``.pth`` file and spandrel, on the GPU if available.

    spandrel's own call uses pixels in 0..1, unlike the training of GFPGAN, and adds random noise. Here the pixels are in
    -1..1 and the noise is off, so that the same face gives the same pixels.

    Args:
        weights: ``GFPGANv1.4.pth``.

    Raises:
        UsageError: torch, torchvision or spandrel is missing, or their versions do not fit.
        WeightsError: the file is not GFPGAN.
    """

    name = "gfpgan_pth"

    def __init__(self, weights: Path) -> None:
        try:
            import torch
            from spandrel import ModelLoader, UnsupportedModelError
        except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision for another torch version
            raise UsageError(
                "restore.model: gfpgan_pth needs torch, torchvision and spandrel, which cannot be imported "
                f"({' '.join(str(error).split())}); {SPANDREL.remedy}"
            ) from error
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            # spandrel's load_from_file would use its own unpickler
            state = torch.load(weights, map_location="cpu", weights_only=True)
            described = ModelLoader(device=self._device).load_from_state_dict(state["params_ema"])
        except (UnsupportedModelError, UnpicklingError, RuntimeError, OSError, EOFError, KeyError, TypeError) as error:
            raise WeightsError(
                f"{weights}: cannot be loaded ({type(error).__name__}: {' '.join(str(error).split())}); "
                "download it again with `hifidata weights pull gfpgan_pth`"
            ) from error
        if described.architecture.id != "GFPGAN":
            raise WeightsError(
                f"{weights}: contains a {described.architecture.name} network, expected GFPGAN; download it again with "
                "`hifidata weights pull gfpgan_pth`"
            )
        self._network: Any = described.model.eval()

    def restore(self, faces: Sequence[RgbU8]) -> list[F32]:
        """Restore faces; returns unchecked outputs, normally (512, 512, 3) float32 in 0..255. Raises ModelError."""
        return [to_levels(self._run(to_network(face))) for face in faces]

    def _run(self, pixels: F32) -> F32:
        torch = self._torch
        try:
            with torch.inference_mode():
                restored = self._network(
                    torch.from_numpy(pixels).to(self._device), return_rgb=False, randomize_noise=False
                )[0]
        except RuntimeError as error:
            raise ModelError(f"{self.name}: torch refused a face: {' '.join(str(error).split())}") from error
        return np.asarray(restored.float().cpu().numpy(), np.float32)


def to_network(face: RgbU8) -> F32:
    """Convert a face (H, W, 3) uint8 to (1, 3, H, W) float32 in -1..1."""
    return np.ascontiguousarray((face.astype(np.float32) / np.float32(127.5) - np.float32(1)).transpose(2, 0, 1)[None])


def to_levels(output: F32) -> F32:
    """Convert an output (1, 3, H, W) in -1..1 to (H, W, 3) float32 in 0..255; other shapes are only scaled."""
    levels = np.clip((output.astype(np.float32) + 1) * np.float32(127.5), 0, 255)  # NaN stays NaN
    return np.asarray(np.moveaxis(levels[0], 0, -1) if levels.ndim == 4 else levels, np.float32)
