"""HiFi-Net: a ControlNet that sees the latent of a landmark image and attends to face tokens instead of text."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    ModelMixin,  # noqa: F401  # a pipeline's from_pretrained looks for a part's base class in the module of that part
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

    It is called like its parent, with the packed face tokens (B, N * 33, d) as ``encoder_hidden_states`` and
    ``landmark_latents`` (B, 4, H / 8, W / 8) as ``controlnet_cond``. The number of references is free: tokens enter
    nothing but cross-attention. Pooled text and time ids go in as ``added_cond_kwargs``, as in SDXL.

    Args:
        net: arguments of ``ControlNetModel``; ``from_unet`` fills them from a UNet.
        choices: the ``ModelConfig`` the net was trained with, as a mapping; stored in the checkpoint.

    Source: section 3.2 and appendix B, Eq. 5. The paper embeds the landmark image with the VAE and does not say how
    the latent enters; a zero-initialised 3 x 3 convolution lets the first step leave the UNet as it was. The parent's own
    condition encoder shrinks its input by 8 and so cannot take a latent.
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
        """A new net in the shape of ``unet``'s encoder and middle, with its weights unless told otherwise.

        Raises:
            ConditionError: the UNet's cross-attention does not have the refiner's width d.
        """
        if unet.config["cross_attention_dim"] != choices.refiner.dim:
            raise ConditionError(
                f"HiFi-Net: the refiner's dim is {choices.refiner.dim}, the UNet's cross_attention_dim "
                f"{unet.config['cross_attention_dim']}; set model.refiner.dim to the latter"
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
        """As the parent's, whose signature it has to keep, for this class's arguments alone."""
        # The parent registers its own arguments beside `net`, and would warn about them when a checkpoint is loaded.
        own = inspect.signature(cls.__init__).parameters.keys()
        return super().extract_init_dict(
            {key: value for key, value in config_dict.items() if key in own or key.startswith("_")}, **kwargs
        )


@torch.no_grad()
def encode_images(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Scaled latents of images.

    Args:
        vae: the base model's.
        images: (B, 3, H, W), RGB; uint8, or float in [-1, 1]. Leave them on the CPU: the range check then costs no
            synchronisation with the GPU.

    Returns:
        (B, 4, H / 8, W / 8) on the VAE's device, in its dtype: the distribution's mode, not a sample, so that it
        can be cached and is the same in training and generation.

    Raises:
        ConditionError: float images outside of [-1, 1].
    """
    # Under diffusers' offload the VAE still lies on the CPU here, and moves when `encode` is entered.
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
    """z_lmk: the latents of landmark images; the only way into HiFi-Net's condition.

    Args:
        vae: the base model's.
        images: (B, 3, H, W) drawn on black, RGB; uint8, or float in [-1, 1] where black is -1.

    Returns:
        (B, 4, H / 8, W / 8).

    Raises:
        ConditionError: the images look like [0, 1], whose black would be the VAE's mid-grey.
    """
    if images.dtype != torch.uint8 and float(images.min()) > -0.5:
        raise ConditionError(
            f"landmark images: the darkest value is {float(images.min()):.3g}, expected black at -1; they seem to be "
            "in [0, 1]: pass uint8, or 2 * x - 1"
        )
    return encode_images(vae, images)


def black_latents(vae: AutoencoderKL, height_px: int, width_px: int) -> Tensor:
    """(1, 4, H / 8, W / 8): "no landmarks". The latent of black is not zero; compute it once and expand it."""
    return landmark_latents(vae, torch.zeros(1, 3, height_px, width_px, dtype=torch.uint8))
