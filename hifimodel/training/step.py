"""The loss of one batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from hifimodel.config import PresetConfig
from hifimodel.data import Batch
from hifimodel.losses.denoising import denoising_loss, denoising_target, predict_x0
from hifimodel.losses.identity import IdentityResult, NoiseLevels
from hifimodel.nets.face_refiner import pack_references
from hifimodel.nets.loading import Modules
from hifimodel.training.draws import Draws
from hifimodel.training.frozen import FrozenModels, PreparedBatch
from hifimodel.training.identity import IdentityTerm


class TrainedNets(nn.Module):
    """The refiner and HiFi-Net as one module, which is trained and which DDP wraps.

    Args:
        modules: contain both.
        preset: choices.
    """

    def __init__(self, modules: Modules, preset: PresetConfig) -> None:
        super().__init__()
        self.refiner, self.hifinet = modules.refiner, modules.hifinet
        self._model, self._tile_to = preset.model, preset.train.tile_to

    def forward(
        self, noisy: Tensor, timesteps: Tensor, prepared: PreparedBatch, faces_dropped: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the residuals for the UNet.

        Args:
            noisy: (B, 4, h, w), z_t.
            timesteps: (B,).
            prepared: the batch.
            faces_dropped: (B,) bool, samples with the tokens of "no reference".

        Returns:
            Down residuals and middle residual.
        """
        tokens = self.refiner(prepared.clip_tokens, prepared.embeddings)  # (R, 33, d)
        if self._model.face_drop_rate:
            # Computed in every step, so that every process has the same parameters in its graph.
            policy = "learned" if self._model.face_in_uncond == "learned" else "zeros"
            no_face = self.refiner.unconditional(policy, prepared.clip_tokens.shape[1]).to(tokens.dtype)  # (1, 33, d)
            counts = torch.tensor(prepared.counts, device=tokens.device)
            tokens = torch.where(faces_dropped.repeat_interleave(counts)[:, None, None], no_face, tokens)
        pooled = prepared.text.pooled
        if self._model.pooled_text == "zeros":
            pooled = torch.zeros_like(pooled)
        return self.hifinet(
            noisy,
            timesteps,
            pack_references(tokens, prepared.counts, self._tile_to),  # (B, N * 33, d)
            prepared.landmarks,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": prepared.time_ids},
            return_dict=False,
        )


@dataclass(frozen=True)
class StepResult:
    """The losses of one batch.

    Attributes:
        loss: scalar with its graph, Eq. 8.
        noise_mse: scalar, detached, Eq. 6.
        identity: Eq. 7; None if disabled.
    """

    loss: Tensor
    noise_mse: Tensor
    identity: IdentityResult | None


class Step:
    """Computes the loss of a prepared batch.

    Args:
        frozen: the frozen models.
        identity: the term of Eq. 7, or None.
        id_weight: alpha of Eq. 8.
    """

    def __init__(self, frozen: FrozenModels, identity: IdentityTerm | None, id_weight: float) -> None:
        self.frozen, self._identity, self._id_weight = frozen, identity, id_weight

    def __call__(self, nets: nn.Module, batch: Batch, prepared: PreparedBatch, draws: Draws) -> StepResult:
        """Return the loss of a batch.

        Args:
            nets: ``TrainedNets``, wrapped or not.
            batch: as loaded, for the identity loss.
            prepared: the batch, encoded by the frozen models.
            draws: of the batch.

        Source: section 3.3, Eq. 6 to 8.
        """
        scheduler, device = self.frozen.base.scheduler, self.frozen.device
        noise, timesteps = draws.noise.to(device), draws.timesteps.to(device)
        noisy = scheduler.add_noise(prepared.latents, noise, timesteps)  # (B, 4, h, w)
        prediction = self.predict(nets, prepared, noisy, timesteps, draws.faces_dropped.to(device))
        target = denoising_target(scheduler, prepared.latents, noise, timesteps)
        noise_mse = denoising_loss(prediction, target)
        if self._identity is None:
            return StepResult(noise_mse, noise_mse.detach(), None)
        x0 = predict_x0(scheduler, noisy, prediction, timesteps)
        identity = self._identity(x0, batch, NoiseLevels(draws.timesteps, scheduler.alphas_cumprod))
        loss = noise_mse + self._id_weight * identity.loss
        return StepResult(loss, noise_mse.detach(), replace(identity, loss=identity.loss.detach()))

    def predict(
        self, nets: nn.Module, prepared: PreparedBatch, noisy: Tensor, timesteps: Tensor, faces_dropped: Tensor
    ) -> Tensor:
        """Return (B, 4, h, w), the prediction of the UNet with HiFi-Net's residuals; see ``TrainedNets.forward``."""
        frozen = self.frozen
        with torch.autocast(frozen.device.type, frozen.dtype, enabled=frozen.dtype != torch.float32):
            down, middle = nets(noisy, timesteps, prepared, faces_dropped)
        return frozen.base.unet(
            noisy.to(frozen.dtype),
            timesteps,
            prepared.text.tokens,
            added_cond_kwargs={"text_embeds": prepared.text.pooled, "time_ids": prepared.time_ids},
            down_block_additional_residuals=[residual.to(frozen.dtype) for residual in down],
            mid_block_additional_residual=middle.to(frozen.dtype),
            return_dict=False,
        )[0]
