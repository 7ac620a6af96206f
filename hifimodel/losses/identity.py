"""The identity error (Eq. 7) of the denoised face."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from hifimodel.config import TrainConfig
from hifimodel.errors import ConfigError
from hifimodel.losses.align import align_faces, crop_corners
from hifimodel.nets.embedder import FaceEmbedder

KpsDetector = Callable[[np.ndarray], Sequence[np.ndarray | None]]
"""E_det: images rgb_u8 (B, H, W, 3) to the five points (5, 2) in px of the best face of each, or None."""

WINDOW_STEP = 8
"""Windows are multiples of this many latents, so that few different shapes occur."""


def mean_embeddings(embeddings: Tensor, counts: Sequence[int]) -> Tensor:
    """Return F_id of Eq. 7 (B, d2): the mean over the references of each sample, (R, d2) in the order of the samples."""
    return torch.stack([part.mean(dim=0) for part in embeddings.split(list(counts))])


@dataclass(frozen=True)
class LatentWindow:
    """A square of latents of the same size for all samples of a batch, at another position in each."""

    side: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    def cut(self, latents: Tensor) -> Tensor:
        """Return (B, 4, side, side) out of (B, 4, h, w)."""
        corners = zip(self.tops, self.lefts, strict=True)
        return torch.stack(
            [latents[k, :, top : top + self.side, left : left + self.side] for k, (top, left) in enumerate(corners)]
        )

    def offsets_px(self, factor: int) -> Tensor:
        """Return (B, 1, 2): x and y of the windows' corners in pixels."""
        return torch.tensor([(left, top) for top, left in zip(self.tops, self.lefts, strict=True)])[:, None] * factor


def face_window(kps: Tensor, latent_side: int, factor: int, margin: float) -> LatentWindow:
    """Return the window to decode: the aligned crop of every face and a margin.

    Args:
        kps: (B, 5, 2) in pixels; on the CPU, since the size of the window is a shape.
        latent_side: side of the latents.
        factor: pixels per latent.
        margin: border around the bounding box of the crop, over the side of the box.
    """
    corners = crop_corners(kps.float().cpu())  # (B, 4, 2)
    low, high = corners.amin(dim=1), corners.amax(dim=1)  # (B, 2)
    need = float((high - low).amax()) * (1 + 2 * margin) / factor
    side = min(latent_side, math.ceil(need / WINDOW_STEP) * WINDOW_STEP)
    start = ((low + high) / 2 / factor - side / 2).round().clamp(0, latent_side - side).int().tolist()
    return LatentWindow(side, tuple(top for _, top in start), tuple(left for left, _ in start))


@dataclass(frozen=True)
class NoiseLevels:
    """Timesteps (B,), preferably on the CPU, and the cumulative alphas (1000,) of the schedule."""

    timesteps: Tensor
    alphas_cumprod: Tensor

    def identity_weights(self, kind: str) -> Tensor:
        """Return (B,): 1, or for ``error`` min(1, sqrt(a / (1 - a))), the inverse of the growth of errors in x0."""
        kept = self.alphas_cumprod.to(self.timesteps.device)[self.timesteps].float()
        return (kept / (1 - kept)).sqrt().clamp(max=1.0) if kind == "error" else torch.ones_like(kept)


@dataclass(frozen=True)
class IdentityResult:
    """The identity loss of a batch.

    Attributes:
        loss: scalar, Eq. 7 averaged over all samples; a sample that does not pass the gate counts 0.
        similarity: mean cosine over the samples that pass, detached; NaN if none passes.
        n_gated: number of samples that pass.
    """

    loss: Tensor
    similarity: Tensor
    n_gated: int


class IdentityLoss:
    """L_id: 1 - cosine between the denoised face and the mean of the references.

    Only a window around the face is decoded: decoding the whole image takes most memory of a step. Tests compare the window
    with the full decode.

    Args:
        vae: the VAE of the base, frozen.
        embedder: E_id, frozen.
        settings: gate, weight and margin.
        detector: E_det, for the gate ``detector``.

    Source: section 3.3, Eq. 7. The gate is a factor of 0 or 1 per sample, so the mean is over all samples: the split of a batch
    over processes and accumulated steps does not change the weight of a sample. ``detector`` is the gate of the paper.
    ``timestep`` passes samples up to a noise level, ``target_kps`` passes all. Both align by the five points of the target,
    which the landmarks prescribe, and need no detector.

    Raises:
        ConfigError: the gate needs a detector and there is none.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        embedder: FaceEmbedder,
        settings: TrainConfig,
        detector: KpsDetector | None = None,
    ) -> None:
        if settings.id_gate == "detector" and detector is None:
            raise ConfigError("train.id_gate: detector needs a face detector; give one, or set it to timestep")
        self._vae, self._embedder, self._settings = vae, embedder, settings
        self._detector = detector if settings.id_gate == "detector" else None
        self._factor = 2 ** (len(vae.config["block_out_channels"]) - 1)

    def __call__(self, x0: Tensor, references: Tensor, target_kps: Tensor, noise: NoiseLevels) -> IdentityResult:
        """Return the loss of a batch.

        Args:
            x0: (B, 4, h, w) from ``predict_x0``, with gradients.
            references: (B, d2) from ``mean_embeddings``.
            target_kps: (B, 5, 2) of the target image in pixels, on the CPU.
            noise: timesteps of the batch, and the schedule.
        """
        rows = self._rows_by_time(noise)
        if not rows:
            return _nothing_passed(x0)
        window = face_window(target_kps[rows], x0.shape[-1], self._factor, self._settings.id_margin)
        latents = window.cut(x0[rows]) / self._vae.config["scaling_factor"]
        decoded = self._vae.decode(latents.to(self._vae.dtype)).sample.float()  # (G, 3, side * 8, side * 8)
        kps = target_kps[rows].float() - window.offsets_px(self._factor)
        if self._detector is not None:
            found = enumerate(self._detector(_as_u8(decoded)))
            seen = {place: points for place, points in found if points is not None}
            if not seen:
                return _nothing_passed(x0)
            kps = torch.from_numpy(np.stack(list(seen.values()))).float()
            rows, decoded = [rows[place] for place in seen], decoded[list(seen)]
        faces = align_faces(decoded, kps)  # (G, 3, 112, 112)
        cosine = functional.cosine_similarity(self._embedder(faces), references[rows].float(), dim=-1)
        weight = noise.identity_weights(self._settings.id_timestep_weight)[rows].to(cosine.device)
        return IdentityResult((weight * (1 - cosine)).sum() / len(x0), cosine.detach().mean(), len(rows))

    def _rows_by_time(self, noise: NoiseLevels) -> list[int]:
        if self._settings.id_gate != "timestep":
            return list(range(len(noise.timesteps)))
        return [row for row, step in enumerate(noise.timesteps.tolist()) if step <= self._settings.id_max_timestep]


def _nothing_passed(x0: Tensor) -> IdentityResult:
    # Attached to the graph, so that every rank of a distributed run has the same backward pass.
    return IdentityResult(x0.sum() * 0.0, x0.new_tensor(math.nan), 0)


def _as_u8(images: Tensor) -> np.ndarray:
    bright = (images.detach() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    return bright.permute(0, 2, 3, 1).cpu().numpy()
