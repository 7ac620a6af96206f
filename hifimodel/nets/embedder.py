"""E_id: the face recogniser as a torch module, so that the identity loss can differentiate it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hifidata.core.errors import WeightsError
from hifidata.image.align import CHIP_PX
from hifimodel.errors import ConditionError, one_line


@dataclass(frozen=True)
class EmbedderSpec:
    """Input format and output width of a known recogniser.

    Attributes:
        file: usual file name.
        dim: d2, width of the embedding.
        mean: per channel, subtracted from RGB in 0 to 255.
        std: per channel, divisor after the subtraction.
        stored_as: hifidata's name of the recogniser, ``embedding_model`` in shards.
    """

    file: str
    dim: int
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    stored_as: str = ""


EMBEDDERS: Mapping[str, EmbedderSpec] = {
    "w600k_r50": EmbedderSpec("w600k_r50.onnx", 512, stored_as="arcface"),
    "glintr100": EmbedderSpec("glintr100.onnx", 512, stored_as="arcface_glintr100"),
    "mobilefacenet": EmbedderSpec(
        "MobileFaceNet.onnx", 128, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "mobilefacenet"
    ),
    "tiny-random": EmbedderSpec("", 64),
}
"""``tiny-random`` is untrained: the tiny preset runs without files, and its similarities have no meaning."""


class FaceEmbedder(nn.Module):
    """A frozen recogniser.

    Args:
        net: normalised images (B, 3, 112, 112) to embeddings of any norm (B, d2).
        name: a key of ``EMBEDDERS``.

    Source: section 3.2, E_id; the paper uses InsightFace's, whose ONNX file has no gradients.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        spec = EMBEDDERS[name]
        self.name, self.dim = name, spec.dim
        self.net = net.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        self.eval()

    def forward(self, faces: Tensor) -> Tensor:
        """Return embeddings with L2 norm 1, differentiable in ``faces``.

        Args:
            faces: (B, 3, 112, 112), aligned, RGB; uint8, or float in [-1, 1].

        Returns:
            (B, d2) float32.

        Raises:
            ConditionError: wrong size.
        """
        if faces.shape[1:] != (3, CHIP_PX, CHIP_PX):
            raise ConditionError(
                f"aligned faces: got shape {tuple(faces.shape)}, expected (B, 3, {CHIP_PX}, {CHIP_PX}); align them with "
                "hifimodel.losses.align.align_faces"
            )
        # Half precision changes cosines by more than the loss changes them late in training.
        with torch.autocast(faces.device.type, enabled=False):
            bright = faces.float() if faces.dtype == torch.uint8 else (faces.float() + 1.0) * 127.5  # 0 to 255
            return functional.normalize(self.net((bright - self.mean) / self.std), dim=-1)


def load_embedder(name: str, path: Path | None = None) -> FaceEmbedder:
    """Load a recogniser by name.

    Args:
        name: a key of ``EMBEDDERS``.
        path: its ONNX file, or a folder that contains it under its usual name; not needed for ``tiny-random``.

    Raises:
        WeightsError: unknown name, no file, or the file of another network.
    """
    if name not in EMBEDDERS:
        raise WeightsError(f"model.embedder: {name} is unknown; known: {', '.join(EMBEDDERS)}")
    if name == "tiny-random":
        return FaceEmbedder(_random_net(EMBEDDERS[name].dim), name)
    from hifimodel.nets.onnx_graph import OnnxGraph  # the onnx package is only needed for files

    spec = EMBEDDERS[name]
    file = path / spec.file if path is not None and path.is_dir() else path
    if file is None or not file.is_file():
        raise WeightsError(f"embedder {name}: no file at {file}; pass --embedder with the path of {spec.file}")
    try:
        embedder = FaceEmbedder(OnnxGraph(file), name)
        with torch.no_grad():
            dim = embedder(torch.zeros(1, 3, CHIP_PX, CHIP_PX)).shape[-1]
    except (RuntimeError, ValueError, TypeError, LookupError) as error:  # errors of an unsuitable graph
        reason = one_line(error)
        raise WeightsError(
            f"{file}: does not run as a recogniser of faces ({reason}); pass --embedder with the path of {spec.file}"
        ) from error
    if dim != spec.dim:
        raise WeightsError(
            f"{file}: gives {dim} numbers per face, {name} gives {spec.dim}; it is another network's file"
        )
    return embedder


def _random_net(dim: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 8, stride=8),
            nn.PReLU(),
            nn.Conv2d(16, 32, 2, stride=2),
            nn.PReLU(),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, dim),
        )
