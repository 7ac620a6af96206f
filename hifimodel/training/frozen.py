"""A batch through everything that is not trained."""

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
    """A batch as the trained nets and the UNet take it; all on the device.

    Attributes:
        keys: of the samples.
        latents: (B, 4, h, w) float32, of the targets.
        landmarks: (B, 4, h, w), z_lmk.
        clip_tokens: (R, 257, d1), F_local.
        embeddings: (R, d2) float32, F_global.
        counts: references of each sample.
        text: features of the captions.
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
    """Gives the latents (B, 4, h, w) of a batch on the CPU, whose targets (B, 3, S, S) uint8 lie on the device, too."""

    def __call__(self, batch: Batch, images: Tensor) -> Tensor: ...


class FrozenModels:
    """The frozen parts, on their device and in their compute dtype.

    Args:
        modules: their base and face encoder are moved and cast; the trained nets stay as they are.
        model: choices.
        train: precision, checkpointing, memory format.
        device: where to.
    """

    def __init__(self, modules: Modules, model: ModelConfig, train: TrainConfig, device: torch.device) -> None:
        self.base, self.encoder, self.model, self.device = modules.base, modules.face_encoder, model, device
        self.dtype = DTYPES[train.mixed_precision]
        base = self.base
        for part in (base.unet, base.text_encoder, base.text_encoder_2, self.encoder.vision):
            _moved(part, device, self.dtype)
        self.encoder.to(device)  # its mean and deviation stay float32
        # SDXL's VAE overflows in fp16, and its config says so.
        wide = self.dtype == torch.float16 and base.vae.config["force_upcast"]
        _moved(base.vae, device, torch.float32 if wide else self.dtype)
        if train.channels_last:
            base.unet.to(memory_format=torch.channels_last)
            base.vae.to(memory_format=torch.channels_last)
        if train.gradient_checkpointing:
            base.unet.enable_gradient_checkpointing()
            # HiFi-Net's residuals enter after the encoder and the middle: no gradient goes through these, nothing is kept.
            for part in (*base.unet.down_blocks, base.unet.mid_block):
                part.apply(_without_checkpointing)
        if train.compile:
            base.unet.compile()

    def encode_targets(self, batch: Batch, images: Tensor) -> Tensor:
        """``Latents`` without a cache."""
        # A channels-last VAE passes its layout on, and other layouts run other kernels, which round otherwise.
        return encode_images(self.base.vae, images).contiguous()

    @torch.no_grad()
    def prepare(self, batch: Batch, latents: Latents) -> PreparedBatch:
        """Encodes a batch; ``latents`` is ``encode_targets`` or a cache before it."""
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
    nn.Module.to(
        part, device, dtype
    )  # diffusers' own `to` warns of layers to be kept in float32, of which these have none


def _without_checkpointing(module: nn.Module) -> None:
    if hasattr(module, "gradient_checkpointing"):
        module.gradient_checkpointing = False  # type: ignore[assignment]  # torch knows tensors and modules alone
