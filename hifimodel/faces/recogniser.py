"""The identity embedding of a reference, by the recogniser that the checkpoint was trained with.

Source: section 3.2, E_id, InsightFace's recogniser. A checkpoint names its recogniser in ``ModelConfig.embedder``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hifidata.core.errors import WeightsError
from hifidata.models import registry
from hifidata.weights.find import find_weight
from hifimodel.errors import CheckpointError
from hifimodel.faces.photo import Reference
from hifimodel.nets.embedder import EMBEDDERS, FaceEmbedder, load_embedder

NETWORKS: Mapping[str, str] = {"arcface": "w600k_r50", "arcface_glintr100": "glintr100"}
"""hifimodel's names (by file) of recognisers, by hifidata's name (``embedding_model`` in shards)."""

HIFIDATA_ALONE: Mapping[str, int] = {"dlib_resnet": 128}
"""Recognisers without a torch version, with their d2; hifidata runs them."""


class IdentityEmbedder(Protocol):
    """Embeds references."""

    name: str

    def embed(self, references: Sequence[Reference]) -> Tensor:
        """Return (N, d2) float32 with L2 norm 1."""


class AlignedEmbedder:
    """A recogniser of ``hifimodel.nets.embedder``, on aligned faces."""

    def __init__(self, embedder: FaceEmbedder) -> None:
        self.name = embedder.name
        self._embedder = embedder

    @torch.no_grad()
    def embed(self, references: Sequence[Reference]) -> Tensor:
        """See IdentityEmbedder."""
        faces = np.stack([reference.aligned_rgb_u8 for reference in references])  # (N, 112, 112, 3)
        return self._embedder(torch.from_numpy(faces).permute(0, 3, 1, 2))


class HifidataEmbedder:
    """A recogniser of hifidata, which aligns faces itself."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._backend = registry.load("verify", name)

    def embed(self, references: Sequence[Reference]) -> Tensor:
        """See IdentityEmbedder."""
        faces = [reference.face for reference in references]
        vectors = self._backend.embed(
            [face.rgb_u8 for face in faces], [face.kps_px for face in faces], [face.landmarks_px for face in faces]
        )
        return torch.from_numpy(np.asarray(vectors, np.float32))


def load_identity_embedder(name: str, dim: int, path: Path | None = None) -> IdentityEmbedder:
    """Load the recogniser that a checkpoint was trained with.

    Args:
        name: ``ModelConfig.embedder``, or ``embedding_model`` of a dataset.
        dim: d2 of the checkpoint.
        path: its file or folder; None: hifidata's weight folders are searched.

    Raises:
        WeightsError: the name is unknown, or the file is missing or of another network.
        CheckpointError: the width of its vectors does not match the checkpoint.
    """
    own = NETWORKS.get(name, name)
    dims = {**HIFIDATA_ALONE, **{key: spec.dim for key, spec in EMBEDDERS.items()}}
    if own not in dims:
        raise WeightsError(
            f"identity embedder {name!r} of the checkpoint: unknown; known: {', '.join([*dims, *NETWORKS])}"
        )
    if dims[own] != dim:
        raise CheckpointError(
            f"identity embedder {name!r}: gives {dims[own]} numbers per face, the checkpoint takes {dim}; its config names "
            "another embedder than its training used"
        )
    if own in HIFIDATA_ALONE:
        return HifidataEmbedder(own)
    if path is None and EMBEDDERS[own].file:
        path = find_weight(own)
    return AlignedEmbedder(load_embedder(own, path))
