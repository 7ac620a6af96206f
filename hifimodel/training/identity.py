"""The identity loss in training: which recogniser, which reference vectors, which detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hifidata import backends
from hifidata.backends.base import FaceDetector as PhotoDetector
from hifidata.errors import HifiError
from hifimodel.build import Base
from hifimodel.config import ModelConfig, TrainConfig
from hifimodel.data import Batch
from hifimodel.embedder import EMBEDDERS, FaceEmbedder, load_embedder
from hifimodel.errors import WeightsError
from hifimodel.losses import IdentityLoss, IdentityResult, NoiseLevels, mean_embeddings
from hifimodel.training.options import TINY_EMBEDDER


class IdentityTerm:
    """L_id of a training batch.

    The references' vectors are those of the shards where the loss' recogniser made them, and are embedded here from the
    aligned faces where another one did.

    Args:
        loss: Eq. 7.
        embedder: its recogniser.
        shards_hold: name of the recogniser whose vectors the batches carry, as in ``ModelConfig.embedder``.
    """

    def __init__(self, loss: IdentityLoss, embedder: FaceEmbedder, shards_hold: str) -> None:
        self._loss, self._embedder = loss, embedder
        self._use_stored = embedder.name == shards_hold

    def __call__(self, x0: Tensor, batch: Batch, noise: NoiseLevels) -> IdentityResult:
        """Eq. 7 for a batch.

        Args:
            x0: (B, 4, h, w), with gradients.
            batch: on the CPU.
            noise: the batch's timesteps.
        """
        references = batch.reference_embeddings.to(x0.device)  # (R, d2)
        if not self._use_stored:
            with torch.no_grad():
                references = self._embedder(batch.reference_faces.to(x0.device))
        return self._loss(x0, mean_embeddings(references, batch.counts), batch.target_kps, noise)


def identity_term(
    base: Base, model: ModelConfig, train: TrainConfig, device: torch.device, file: Path | None
) -> IdentityTerm | None:
    """The term that the settings ask for, None for an ``id_weight`` of 0. Raises WeightsError where a file is missing."""
    if train.id_weight == 0:
        return None
    embedder = loss_embedder(model, file).to(device)
    detector = PaperDetector(train.id_detector) if train.id_gate == "detector" else None
    return IdentityTerm(IdentityLoss(base.vae, embedder, train, detector), embedder, model.embedder)


def loss_embedder(model: ModelConfig, file: Path | None) -> FaceEmbedder:
    """The recogniser of the identity loss: the model's own; for the tiny architecture the untrained one, unless ``file`` is
    given, whose name then says which it is.

    Raises:
        WeightsError: no file, or one that no known recogniser goes by.
    """
    if model.architecture != "tiny":
        return load_embedder(model.embedder, file)
    if file is None:
        return load_embedder(TINY_EMBEDDER)
    by_file = {spec.file: name for name, spec in EMBEDDERS.items() if spec.file}
    if file.name not in by_file:
        raise WeightsError(f"--embedder {file}: not the name of a known recogniser's file; known: {', '.join(by_file)}")
    return load_embedder(by_file[file.name], file)


class PaperDetector:
    """E_det for the gate ``detector``: a detector of hifidata on the decoded pictures, on the CPU.

    Args:
        name: as ``detect.model`` in a recipe.

    Raises:
        WeightsError: no detector of that name, or its files are missing.
    """

    def __init__(self, name: str) -> None:
        try:
            self._detector: PhotoDetector = backends.load("detect", name)
        except HifiError as error:
            raise WeightsError(f"train.id_detector {name}: {error}; or set train.id_gate=target_kps") from error

    def __call__(self, pictures: np.ndarray) -> list[np.ndarray | None]:
        """Five points (5, 2) of the best face in each picture rgb_u8 (B, H, W, 3), None where there is no face."""
        found = self._detector.detect(list(pictures))
        return [faces.kps_px[int(np.argmax(faces.scores))] if len(faces.scores) else None for faces in found]
