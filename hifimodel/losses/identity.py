"""What is minimised: the noise error, and the identity error of the denoised face."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler
from torch import Tensor
from torch.nn import functional

from hifimodel.config import TrainConfig
from hifimodel.errors import ConfigError
from hifimodel.losses.align import align_faces, crop_corners
from hifimodel.nets.embedder import FaceEmbedder

FaceDetector = Callable[[np.ndarray], Sequence[np.ndarray | None]]
"""E_det: pictures rgb_u8 (B, H, W, 3) to the five points (5, 2) in pixels of the best face of each, or None."""

WINDOW_STEP = 8
"""Windows are multiples of this many latents, so that few different shapes are met."""


def denoising_target(scheduler: DDPMScheduler, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """(B, 4, h, w): what the UNet should predict, noise or velocity, as the base's schedule says.

    Raises:
        ConfigError: the schedule predicts something else.
    """
    kind = scheduler.config["prediction_type"]
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return scheduler.get_velocity(latents, noise, timesteps)
    raise ConfigError(f"scheduler: prediction_type {kind} is not trained here; use a base of epsilon or v_prediction")


def denoising_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error in float32.

    Source: section 3.3, Eq. 6; the paper writes an L2 norm, every code base it builds on takes the mean square.
    """
    return functional.mse_loss(prediction.float(), target.float())


def predict_x0(scheduler: DDPMScheduler, noisy: Tensor, prediction: Tensor, timesteps: Tensor) -> Tensor:
    """The denoised latents that a prediction implies, in float32.

    Args:
        scheduler: gives the noise levels and says what is predicted.
        noisy: (B, 4, h, w), z_t.
        prediction: (B, 4, h, w), noise or velocity.
        timesteps: (B,).

    Returns:
        (B, 4, h, w). For noise prediction an error grows by sqrt((1 - a) / a), 14.6 at the last step.

    Source: section 3.3, x0_hat of Eq. 7, from the closed form of the forward process.
    """
    kept = scheduler.alphas_cumprod.to(noisy.device)[timesteps].float().view(-1, 1, 1, 1)
    noisy, prediction = noisy.float(), prediction.float()
    if scheduler.config["prediction_type"] == "v_prediction":
        return kept.sqrt() * noisy - (1 - kept).sqrt() * prediction
    return (noisy - (1 - kept).sqrt() * prediction) / kept.sqrt()


def mean_embeddings(embeddings: Tensor, counts: Sequence[int]) -> Tensor:
    """(B, d2): F_id of Eq. 7, the mean over each sample's references (R, d2), which lie one sample after the other."""
    return torch.stack([part.mean(dim=0) for part in embeddings.split(list(counts))])


@dataclass(frozen=True)
class Window:
    """The same square of latents for all samples of a batch, at another place in each."""

    side: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    def cut(self, latents: Tensor) -> Tensor:
        """(B, 4, side, side) out of (B, 4, h, w)."""
        places = zip(self.tops, self.lefts, strict=True)
        return torch.stack(
            [latents[k, :, top : top + self.side, left : left + self.side] for k, (top, left) in enumerate(places)]
        )

    def offsets_px(self, factor: int) -> Tensor:
        """(B, 1, 2): x and y of the windows' corners in pixels."""
        return torch.tensor([(left, top) for top, left in zip(self.tops, self.lefts, strict=True)])[:, None] * factor


def face_window(kps: Tensor, latent_side: int, factor: int, margin: float) -> Window:
    """Where to decode: the aligned crop of every face and a margin.

    Args:
        kps: (B, 5, 2) in pixels; on the CPU, since the window's size is a shape.
        latent_side: side of the latents.
        factor: pixels per latent.
        margin: border around the crop's bounding box, over the box's side.
    """
    corners = crop_corners(kps.float().cpu())  # (B, 4, 2)
    low, high = corners.amin(dim=1), corners.amax(dim=1)  # (B, 2)
    need = float((high - low).amax()) * (1 + 2 * margin) / factor
    side = min(latent_side, math.ceil(need / WINDOW_STEP) * WINDOW_STEP)
    start = ((low + high) / 2 / factor - side / 2).round().clamp(0, latent_side - side).int().tolist()
    return Window(side, tuple(top for _, top in start), tuple(left for left, _ in start))


@dataclass(frozen=True)
class IdentityResult:
    """The identity loss of a batch.

    Args:
        loss: scalar, Eq. 7 averaged over all samples; one that did not pass the gate counts 0.
        similarity: mean cosine over those that passed, detached; NaN where none did.
        n_gated: how many passed.
    """

    loss: Tensor
    similarity: Tensor
    n_gated: int


class IdentityLoss:
    """L_id: 1 - cosine between the denoised face and the mean of the references.

    Only a window around the face is decoded, which is where the step's memory goes otherwise; ``tests`` pin it to the full
    decode.

    Args:
        vae: the base's, frozen.
        embedder: E_id, frozen.
        settings: which gate, weight and margin.
        detector: E_det, for the gate ``detector``.

    Source: section 3.3, Eq. 7. Its gate is a factor of 0 or 1 for each sample, so the mean is over all of them: how a batch is
    split over processes and accumulated steps does not weigh its samples. The gate ``detector`` is the paper's. ``timestep`` passes samples up to a noise level and
    ``target_kps`` passes all; both align by the target's own points, which the landmarks ask the model to hit, and cost no
    detector.

    Raises:
        ConfigError: the gate needs a detector and none was given.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        embedder: FaceEmbedder,
        settings: TrainConfig,
        detector: FaceDetector | None = None,
    ) -> None:
        if settings.id_gate == "detector" and detector is None:
            raise ConfigError("train.id_gate: detector needs a face detector; give one, or set it to timestep")
        self._vae, self._embedder, self._settings = vae, embedder, settings
        self._detector = detector if settings.id_gate == "detector" else None
        self._factor = 2 ** (len(vae.config["block_out_channels"]) - 1)

    def __call__(self, x0: Tensor, references: Tensor, target_kps: Tensor, noise: NoiseLevels) -> IdentityResult:
        """The loss of a batch.

        Args:
            x0: (B, 4, h, w) from ``predict_x0``, with gradients.
            references: (B, d2) from ``mean_embeddings``.
            target_kps: (B, 5, 2) of the target picture in pixels, on the CPU.
            noise: the batch's timesteps and the schedule.
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


@dataclass(frozen=True)
class NoiseLevels:
    """Timesteps (B,), best kept on the CPU, and the schedule's cumulative alphas (1000,)."""

    timesteps: Tensor
    alphas_cumprod: Tensor

    def identity_weights(self, kind: str) -> Tensor:
        """(B,): 1, or for ``error`` min(1, sqrt(a / (1 - a))), the inverse of what predicting x0 does to an error."""
        kept = self.alphas_cumprod.to(self.timesteps.device)[self.timesteps].float()
        return (kept / (1 - kept)).sqrt().clamp(max=1.0) if kind == "error" else torch.ones_like(kept)


def _nothing_passed(x0: Tensor) -> IdentityResult:
    # Attached to the graph, so that every rank of a distributed run has the same backward pass.
    return IdentityResult(x0.sum() * 0.0, x0.new_tensor(math.nan), 0)


def _as_u8(pictures: Tensor) -> np.ndarray:
    bright = (pictures.detach() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    return bright.permute(0, 2, 3, 1).cpu().numpy()
