"""The frozen base in code: SDXL's shapes for counting and timing, and ``tiny``, a small version of it.

Nothing is downloaded or trained. Weights are random from a seed, except those of the tiny VAE: it averages blocks of pixels,
so that its images are recognisable.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

BLOCKS = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}

SDXL_UNET: dict[str, Any] = {
    **BLOCKS,
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
"""The UNet of SDXL-base-1.0: 2,567 M parameters."""

SDXL_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
}

TINY_UNET: dict[str, Any] = {
    "sample_size": 32,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": 64,
    "transformer_layers_per_block": (1, 1),
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 32,
}

TINY_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (8, 8, 8),
    "layers_per_block": 0,
    "norm_num_groups": 1,
    "latent_channels": 4,
    "sample_size": 128,
    "mid_block_add_attention": False,
    "scaling_factor": 2.0,
}

SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}
"""The noise schedule of SDXL-base-1.0."""


def text_config(architecture: str, second: bool) -> CLIPTextConfig:
    """Return the config of SDXL's first (CLIP ViT-L) or second (OpenCLIP bigG) text encoder, or of the tiny one for both."""
    if architecture == "tiny":
        sizes: dict[str, Any] = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        }
        ids: dict[str, Any] = {"vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
        return CLIPTextConfig(**sizes, **ids, projection_dim=32, hidden_act="gelu")
    if second:
        sizes = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
        return CLIPTextConfig(**sizes, projection_dim=1280, hidden_act="gelu")
    return CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)


def vision_config(architecture: str) -> CLIPVisionConfig:
    """Return the config of CLIP ViT-L/14 (257 tokens of 1024), or of a tower of 17 tokens of 32."""
    if architecture == "tiny":
        return CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
        )
    return CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14
    )


def byte_tokenizer() -> CLIPTokenizer:
    """Make a CLIP tokenizer whose tokens are single bytes: 514 entries, without a download."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    # Byte-level BPE writes each byte as one printable character; bytes without one use code points from 256 on.
    characters = [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(others))]
    words = [*characters, *(f"{character}</w>" for character in characters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.json").write_text(
            json.dumps({word: number for number, word in enumerate(words)}), encoding="utf-8"
        )
        Path(folder, "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def random_unet(architecture: str) -> UNet2DConditionModel:
    """Make the UNet with random weights."""
    return UNet2DConditionModel(**(TINY_UNET if architecture == "tiny" else SDXL_UNET))


def random_vae(architecture: str) -> AutoencoderKL:
    """Make SDXL's VAE with random weights, or the tiny VAE that averages blocks of 4 x 4 pixels."""
    return averaging_vae() if architecture == "tiny" else AutoencoderKL(**SDXL_VAE)


CARRIER = 100.0
SHIFT = 12.0


def averaging_vae() -> AutoencoderKL:
    """Make an ``AutoencoderKL`` with hand-set weights: latents are block means of R, G, B and of their average.

    Channels 0 to 2 are the colours and 5 to 7 their negatives, so that the mean of the group norm is zero. Channels 3 and 4
    carry +-CARRIER, so that its variance does not depend on the image. The norm is then nearly linear, and SHIFT keeps SiLU
    in its linear part. Residual branches are zero. Decoding repeats and blurs.
    """
    vae = AutoencoderKL(**TINY_VAE).eval().requires_grad_(False)
    for parameter in vae.parameters():
        parameter.zero_()
    channels = TINY_VAE["block_out_channels"][0]
    colours = torch.eye(3)
    luma = torch.full((1, 3), 1 / 3)
    _carry(vae.encoder.conv_in, colours)
    _read(vae.encoder.conv_norm_out, vae.encoder.conv_out, torch.cat([colours, luma]), channels)
    vae.encoder.conv_out.bias[4:] = -30.0  # log variance: the latent is exact
    _pass(vae.quant_conv, torch.eye(8))
    _pass(vae.post_quant_conv, torch.eye(4))
    # Half of the brightness of each colour comes from the fourth latent, so that noise in either half has less effect.
    _carry(vae.decoder.conv_in, torch.cat([colours - luma / 2, torch.full((3, 1), 0.5)], dim=1))
    _read(vae.decoder.conv_norm_out, vae.decoder.conv_out, colours, channels)
    for block in (*vae.encoder.down_blocks, *vae.decoder.up_blocks):
        for conv in (sampler.conv for sampler in (getattr(block, "downsamplers", None) or [])):
            conv.weight[:, :, :2, :2] = torch.eye(channels)[:, :, None, None] / 4
        for conv in (sampler.conv for sampler in (getattr(block, "upsamplers", None) or [])):
            blur = torch.tensor([0.25, 0.5, 0.25])
            conv.weight[:] = torch.eye(channels)[:, :, None, None] * torch.outer(blur, blur)
            conv.weight[3:5] = 0.0  # blur would change the carriers at the border
            _centre(conv)[3, 3] = _centre(conv)[4, 4] = 1.0
    return vae


def _centre(conv: nn.Conv2d) -> torch.Tensor:
    middle = conv.kernel_size[0] // 2
    return conv.weight[:, :, middle, middle]


def _pass(conv: nn.Conv2d, matrix: torch.Tensor) -> None:
    _centre(conv)[: matrix.shape[0], : matrix.shape[1]] = matrix


def _carry(conv: nn.Conv2d, matrix: torch.Tensor) -> None:
    _pass(conv, matrix)
    _centre(conv)[5:8, : matrix.shape[1]] = -matrix
    bias = conv.get_parameter("bias")
    bias[3], bias[4] = CARRIER, -CARRIER


def _read(norm: nn.GroupNorm, conv: nn.Conv2d, matrix: torch.Tensor, channels: int) -> None:
    norm.weight.fill_(CARRIER * (2 / channels) ** 0.5)
    norm.bias.fill_(SHIFT)
    _pass(conv, matrix)
    conv.get_parameter("bias")[: len(matrix)] = -SHIFT * matrix.sum(dim=1)
