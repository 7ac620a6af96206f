"""HiFi-Net: a ControlNet with the latent of a landmark image as condition and face tokens in the place of text."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    ModelMixin,  # noqa: F401  # from_pretrained of a pipeline needs the base class of a part in the module of the part
    UNet2DConditionModel,
)
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from hifimodel.config import ModelConfig
from hifimodel.errors import ConditionError

CONDITION_CHANNELS = 4
"""Channels of SDXL's latents."""


class HiFiNet(ControlNetModel):
    """A ``ControlNetModel`` whose condition is a latent, added through a zero-initialised convolution.

    It is called like its parent, with packed face tokens (B, N * 33, d) as ``encoder_hidden_states`` and
    ``landmark_latents`` (B, 4, H / 8, W / 8) as ``controlnet_cond``. The number of references is free: tokens only enter
    cross-attention. Pooled text and time ids are ``added_cond_kwargs``, as in SDXL.

    Args:
        net: arguments of ``ControlNetModel``; see ``from_unet``.
        choices: the ``ModelConfig`` of the training, as a mapping; stored in the checkpoint.

    Source: section 3.2 and appendix B, Eq. 5. The paper embeds the landmark image with the VAE and does not state how the
    latent enters. With a zero-initialised 3 x 3 convolution, the first step leaves the UNet unchanged. The condition encoder
    of the parent reduces its input by 8, so it cannot take a latent.
    """

    @register_to_config
    def __init__(self, net: dict[str, Any], choices: dict[str, Any]) -> None:
        super().__init__(**net)
        first = nn.Conv2d(CONDITION_CHANNELS, net["block_out_channels"][0], kernel_size=3, padding=1)
        for parameter in first.parameters():
            nn.init.zeros_(parameter)
        self.controlnet_cond_embedding = first

    @classmethod
    def from_unet(cls, unet: UNet2DConditionModel, choices: ModelConfig, load_weights: bool = True) -> HiFiNet:
        """Make a new network in the shape of the UNet's encoder and middle block, by default with their weights.

        Raises:
            ConditionError: the cross-attention of the UNet does not have the refiner's width d.
        """
        if unet.config["cross_attention_dim"] != choices.refiner.dim:
            raise ConditionError(
                f"HiFi-Net: the refiner's dim is {choices.refiner.dim}, the UNet's cross_attention_dim "
                f"{unet.config['cross_attention_dim']}; set model.refiner.dim to that"
            )
        shared = inspect.signature(ControlNetModel.__init__).parameters.keys() & unet.config.keys()
        net = cls({key: unet.config[key] for key in sorted(shared)}, choices.model_dump())
        if load_weights:
            for part in ("conv_in", "time_embedding", "add_embedding", "down_blocks", "mid_block"):
                getattr(net, part).load_state_dict(getattr(unet, part).state_dict())
        return net

    @property
    def choices(self) -> ModelConfig:
        """The choices stored in the checkpoint."""
        return ModelConfig.model_validate(self.config["choices"])

    @classmethod
    def extract_init_dict(
        cls, config_dict: dict[str, Any], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Call the parent with the arguments of this class only; the signature is the parent's."""
        # The parent also registers its own arguments, and would warn about them when a checkpoint is loaded.
        own = inspect.signature(cls.__init__).parameters.keys()
        return super().extract_init_dict(
            {key: value for key, value in config_dict.items() if key in own or key.startswith("_")}, **kwargs
        )


@torch.no_grad()
def encode_images(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Encode images to scaled latents.

    Args:
        vae: the VAE of the base.
        images: (B, 3, H, W), RGB; uint8, or float in [-1, 1]. On the CPU, the range check needs no synchronisation with
            the GPU.

    Returns:
        (B, 4, H / 8, W / 8) on the device and in the dtype of the VAE: the mode of the distribution instead of a sample,
        so that it can be cached and is equal in training and generation.

    Raises:
        ConditionError: float images outside [-1, 1].
    """
    # With diffusers' offload, the VAE is still on the CPU here and moves when `encode` is called.
    device = getattr(getattr(vae, "_hf_hook", None), "execution_device", None) or vae.device
    if images.dtype == torch.uint8:
        scaled = images.to(device, vae.dtype) / 127.5 - 1.0
    else:
        low, high = (float(value) for value in images.aminmax())
        if low < -1.001 or high > 1.001:
            raise ConditionError(
                f"images for the VAE: values from {low:.3g} to {high:.3g}, expected -1 to 1; pass uint8 or scale them"
            )
        scaled = images.to(device, vae.dtype)
    return vae.encode(scaled).latent_dist.mode() * vae.config["scaling_factor"]


def landmark_latents(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Encode landmark images to z_lmk, the condition of HiFi-Net.

    Args:
        vae: the VAE of the base.
        images: (B, 3, H, W) with a black background, RGB; uint8, or float in [-1, 1] where black is -1.

    Returns:
        (B, 4, H / 8, W / 8).

    Raises:
        ConditionError: the images seem to be in [0, 1], where black is the mid-grey of the VAE.
    """
    if images.dtype != torch.uint8 and float(images.min()) > -0.5:
        raise ConditionError(
            f"landmark images: the darkest value is {float(images.min()):.3g}, expected black at -1; they seem to be "
            "in [0, 1]: pass uint8, or 2 * x - 1"
        )
    return encode_images(vae, images)


def black_latents(vae: AutoencoderKL, height_px: int, width_px: int) -> Tensor:
    """Return (1, 4, H / 8, W / 8) for "no landmarks". The latent of black is not zero; compute it once and expand it."""
    return landmark_latents(vae, torch.zeros(1, 3, height_px, width_px, dtype=torch.uint8))
