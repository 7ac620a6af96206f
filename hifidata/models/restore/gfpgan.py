"""GFPGAN v1.4: blind face restoration, as an ONNX graph or from the published PyTorch file.

Both take a face aligned to FFHQ's template of 512 px. GFPGAN's own package is not used: it loads a detector and a face
parser of its own, and imports a module that torchvision has removed.

Source: Wang et al., GFPGAN, CVPR 2021. Paper, section 3.4: GFPGAN is used for face restoration.
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
    """The ONNX graph, (n, 3, 512, 512) RGB in -1 to 1 on both sides, one face a call.

    Args:
        weights: ``GFPGANv1.4.onnx``.

    Raises:
        WeightsError: the graph does not take faces of 512 px.
    """

    name = "gfpgan"

    def __init__(self, weights: Path) -> None:
        self._graph = OnnxModel(weights, [(None, 3, SIDE_PX, SIDE_PX)])

    def restore(self, faces: Sequence[RgbU8]) -> list[F32]:
        """As the network gives them, normally (512, 512, 3) float32 in 0 to 255. Raises ModelError."""
        return [to_levels(self._graph(to_network(face))[0]) for face in faces]


class GfpganTorch:
    """The published ``.pth`` through spandrel, on the GPU where there is one.

    spandrel's own call feeds GFPGAN pictures in 0 to 1, on which it was not trained, and adds random noise; here the
    network is called in -1 to 1 and without noise, so that the same face gives the same pixels.

    Args:
        weights: ``GFPGANv1.4.pth``.

    Raises:
        UsageError: torch, torchvision or spandrel is missing, or they do not fit each other.
        WeightsError: the file is no GFPGAN.
    """

    name = "gfpgan_pth"

    def __init__(self, weights: Path) -> None:
        try:
            import torch
            from spandrel import ModelLoader, UnsupportedModelError
        except (ImportError, RuntimeError) as error:  # a torchvision built for another torch raises RuntimeError
            raise UsageError(
                f"restore.model gfpgan_pth: torch, torchvision and spandrel do not load ({' '.join(str(error).split())}); "
                f"{SPANDREL.remedy}"
            ) from error
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            # not spandrel's load_from_file: its unpickler is its own
            state = torch.load(weights, map_location="cpu", weights_only=True)
            described = ModelLoader(device=self._device).load_from_state_dict(state["params_ema"])
        except (UnsupportedModelError, UnpicklingError, RuntimeError, OSError, EOFError, KeyError, TypeError) as error:
            raise WeightsError(
                f"{weights}: cannot be loaded ({type(error).__name__}: {' '.join(str(error).split())}); "
                "get it again with `hifidata weights pull`"
            ) from error
        if described.architecture.id != "GFPGAN":
            raise WeightsError(f"{weights}: holds a {described.architecture.name} network, expected GFPGAN")
        self._network: Any = described.model.eval()

    def restore(self, faces: Sequence[RgbU8]) -> list[F32]:
        """As the network gives them, normally (512, 512, 3) float32 in 0 to 255. Raises ModelError."""
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
    """(1, 3, H, W) float32 in -1 to 1 of a face (H, W, 3) uint8."""
    return np.ascontiguousarray((face.astype(np.float32) / np.float32(127.5) - np.float32(1)).transpose(2, 0, 1)[None])


def to_levels(output: F32) -> F32:
    """(H, W, 3) float32, 0 to 255, of a network's output (1, 3, H, W) in -1 to 1; another form is handed on as it is."""
    levels = np.clip((output.astype(np.float32) + 1) * np.float32(127.5), 0, 255)  # NaN stays NaN
    return np.asarray(np.moveaxis(levels[0], 0, -1) if levels.ndim == 4 else levels, np.float32)
