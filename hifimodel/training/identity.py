"""The identity loss in training: its recogniser, reference vectors and detector."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hifidata.core.errors import HifiError, WeightsError
from hifidata.models import registry
from hifidata.models.protocols import FaceDetector
from hifimodel.config import ModelConfig, TrainConfig
from hifimodel.data import Batch
from hifimodel.losses.identity import IdentityLoss, IdentityResult, NoiseLevels, mean_embeddings
from hifimodel.nets.embedder import EMBEDDERS, FaceEmbedder, load_embedder
from hifimodel.nets.loading import Base
from hifimodel.training.options import TINY_EMBEDDER


class IdentityTerm:
    """L_id of a training batch.

    If the recogniser of the loss also made the vectors in the shards, these are the reference vectors. Otherwise the aligned
    faces of the references are embedded.

    Args:
        loss: Eq. 7.
        embedder: recogniser of the loss.
        shards_hold: recogniser of the vectors in the shards, as in ``ModelConfig.embedder``.

    Attributes:
        recogniser: name and digest of the weights.
    """

    def __init__(self, loss: IdentityLoss, embedder: FaceEmbedder, shards_hold: str) -> None:
        self._loss, self._embedder = loss, embedder
        self._use_stored = embedder.name == shards_hold
        self.recogniser = _named(embedder)

    def __call__(self, x0: Tensor, batch: Batch, noise: NoiseLevels) -> IdentityResult:
        """Return Eq. 7 for a batch.

        Args:
            x0: (B, 4, h, w), with gradients.
            batch: on the CPU.
            noise: timesteps of the batch.
        """
        references = batch.reference_embeddings.to(x0.device)  # (R, d2)
        if not self._use_stored:
            with torch.no_grad():
                references = self._embedder(batch.reference_faces.to(x0.device))
        return self._loss(x0, mean_embeddings(references, batch.counts), batch.target_kps, noise)


def identity_term(
    base: Base, model: ModelConfig, train: TrainConfig, device: torch.device, file: Path | None
) -> IdentityTerm | None:
    """Make the term of the settings; None for an ``id_weight`` of 0. Raises WeightsError if a file is missing."""
    if train.id_weight == 0:
        return None
    embedder = loss_embedder(model, file).to(device)
    detector = GateDetector(train.id_detector) if train.id_gate == "detector" else None
    return IdentityTerm(IdentityLoss(base.vae, embedder, train, detector), embedder, model.embedder)


def loss_embedder(model: ModelConfig, place: Path | None) -> FaceEmbedder:
    """Load the recogniser of the identity loss, which may differ from the recogniser of the shards.

    The name of the file selects it; without a known name, the recogniser of the model is loaded. The tiny architecture
    without a file uses the untrained recogniser.

    Args:
        model: choices.
        place: file of the recogniser, or the folder that contains it.

    Raises:
        WeightsError: no file, or not the name of a known recogniser.
    """
    by_file = {spec.file: name for name, spec in EMBEDDERS.items() if spec.file}
    if place is None and model.architecture == "tiny":
        return load_embedder(TINY_EMBEDDER)
    if place is not None and place.name in by_file:
        return load_embedder(by_file[place.name], place)
    if model.embedder in by_file.values():
        return load_embedder(model.embedder, place)
    if place is None:
        raise WeightsError(
            f"model.embedder {model.embedder}: not differentiable, so it cannot be in the identity loss; pass --embedder with "
            f"the file of another recogniser ({', '.join(by_file)}), or set train.id_weight=0"
        )
    inside = [place / file for file in by_file if (place / file).is_file()]
    if len(inside) == 1:
        return load_embedder(by_file[inside[0].name], inside[0])
    what = "contains several known recognisers" if inside else "not a file or folder of a known recogniser"
    raise WeightsError(f"--embedder {place}: {what}; name one file; known: {', '.join(by_file)}")


def _named(embedder: FaceEmbedder) -> str:
    digest = hashlib.sha256()
    for part in (*embedder.parameters(), *embedder.buffers()):
        digest.update(part.detach().cpu().numpy().tobytes())
    return f"{embedder.name}-{digest.hexdigest()[:16]}"


class GateDetector:
    """E_det for the gate ``detector``: a detector of hifidata, on the CPU.

    Args:
        name: see ``detect.model`` of recipes.

    Raises:
        WeightsError: unknown name, or missing files.
    """

    def __init__(self, name: str) -> None:
        try:
            self._detector: FaceDetector = registry.load("detect", name)
        except HifiError as error:
            raise WeightsError(f"train.id_detector {name}: {error}; or set train.id_gate=target_kps") from error

    def __call__(self, images: np.ndarray) -> list[np.ndarray | None]:
        """Return five points (5, 2) of the best face per image, rgb_u8 (B, H, W, 3); None without a face."""
        found = self._detector.detect(list(images))
        return [faces.kps_px[int(np.argmax(faces.scores))] if len(faces.scores) else None for faces in found]
