"""The frozen models, and a batch encoded by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from hifimodel.config import ModelConfig, TrainConfig
from hifimodel.data import Batch
from hifimodel.nets.hifinet import encode_images, landmark_latents
from hifimodel.nets.loading import Modules
from hifimodel.nets.text_encoders import TextFeatures, encode_prompts

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Compute dtype by ``train.mixed_precision``."""


@dataclass(frozen=True)
class PreparedBatch:
    """The inputs of the trained networks and the UNet for a batch, on the device.

    Attributes:
        keys: of the samples.
        latents: (B, 4, h, w) float32, of the targets.
        landmarks: (B, 4, h, w), z_lmk.
        clip_tokens: (R, 257, d1), F_local.
        embeddings: (R, d2) float32, F_global.
        counts: references of each sample.
        text: encoded captions.
        time_ids: (B, 6).
    """

    keys: list[str]
    latents: Tensor
    landmarks: Tensor
    clip_tokens: Tensor
    embeddings: Tensor
    counts: list[int]
    text: TextFeatures
    time_ids: Tensor


class Latents(Protocol):
    """Returns the latents (B, 4, h, w) of a batch on the CPU; its targets (B, 3, S, S) uint8 are also on the device."""

    def __call__(self, batch: Batch, images: Tensor) -> Tensor: ...


class FrozenModels:
    """The frozen models, on their device and in their compute dtype.

    Args:
        modules: base and face encoder are moved and cast; the trained networks are not changed.
        model: choices.
        train: precision, gradient checkpointing, memory format.
        device: destination.
    """

    def __init__(self, modules: Modules, model: ModelConfig, train: TrainConfig, device: torch.device) -> None:
        self.base, self.encoder, self.model, self.device = modules.base, modules.face_encoder, model, device
        self.dtype = DTYPES[train.mixed_precision]
        base = self.base
        for part in (base.unet, base.text_encoder, base.text_encoder_2, self.encoder.vision):
            _moved(part, device, self.dtype)
        self.encoder.to(device)  # mean and standard deviation stay float32
        # SDXL's VAE overflows in fp16; its config says so.
        wide = self.dtype == torch.float16 and base.vae.config["force_upcast"]
        _moved(base.vae, device, torch.float32 if wide else self.dtype)
        if train.channels_last:
            base.unet.to(memory_format=torch.channels_last)
            base.vae.to(memory_format=torch.channels_last)
        if train.gradient_checkpointing:
            base.unet.enable_gradient_checkpointing()
            # HiFi-Net's residuals enter after the encoder and the middle block, so no gradient flows through these.
            for part in (*base.unet.down_blocks, base.unet.mid_block):
                part.apply(_without_checkpointing)
        if train.compile:
            base.unet.compile()

    def encode_targets(self, batch: Batch, images: Tensor) -> Tensor:
        """Encode the targets; ``Latents`` without a cache."""
        # The output of a channels-last VAE is channels-last, and another layout runs other kernels, which round differently.
        return encode_images(self.base.vae, images).contiguous()

    @torch.no_grad()
    def prepare(self, batch: Batch, latents: Latents) -> PreparedBatch:
        """Encode a batch; ``latents`` is ``encode_targets`` or a cache of it."""
        on_device = batch.to(self.device, non_blocking=True)
        return PreparedBatch(
            keys=batch.keys,
            latents=latents(batch, on_device.pixels_u8.permute(0, 3, 1, 2)).float(),
            landmarks=landmark_latents(self.base.vae, on_device.landmarks_u8.permute(0, 3, 1, 2)),
            clip_tokens=self.encoder(on_device.reference_clip),
            embeddings=on_device.reference_embeddings,
            counts=batch.counts,
            text=encode_prompts(self.base, batch.captions, self.model.empty_text),
            time_ids=on_device.time_ids,
        )


def _moved(part: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    # `to` of diffusers would warn about layers that must stay float32; these models have none
    nn.Module.to(part, device, dtype)


def _without_checkpointing(module: nn.Module) -> None:
    if hasattr(module, "gradient_checkpointing"):
        module.gradient_checkpointing = False  # type: ignore[assignment]  # torch only knows tensors and modules
