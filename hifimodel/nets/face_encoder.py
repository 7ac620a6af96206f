"""The frozen CLIP vision tower: local features of a reference."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionModel

from hifimodel.errors import ConditionError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class FaceEncoder(nn.Module):
    """Encodes face crops to the CLIP tokens of one layer.

    Args:
        vision: the vision tower; it is frozen.
        layer: index of the hidden state; -2 is the last but one.

    Attributes:
        image_px: input size of the tower.

    Source: section 3.2, F_local. The paper does not state the layer. The class token is included, since 257 tokens are 256
    patches and 1.

    Raises:
        ConditionError: the tower has no such layer, or its input is not square.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, vision: CLIPVisionModel, layer: int) -> None:
        super().__init__()
        n_layers = vision.config.num_hidden_layers
        if not -n_layers <= layer <= -1:
            raise ConditionError(f"model.clip_layer: {layer}, expected -{n_layers} to -1 for this image encoder")
        sides = vision.config.image_size, vision.config.patch_size
        if not isinstance(sides[0], int) or not isinstance(sides[1], int):
            raise ConditionError(f"image encoder: images and patches of {sides} px, expected one number each")
        self.image_px, self._patch_px = sides[0], sides[1]
        self.vision = vision.requires_grad_(False)
        self.layer = layer
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(1, 3, 1, 1), persistent=False)
        self.eval()

    @property
    def dim(self) -> int:
        """d1, width of the tokens."""
        return self.vision.config.hidden_size

    @property
    def n_tokens(self) -> int:
        """Tokens per image; 257 for 224 px and patches of 14 px."""
        return 1 + (self.image_px // self._patch_px) ** 2

    @torch.no_grad()
    def forward(self, crops: Tensor) -> Tensor:
        """Return F_local.

        Args:
            crops: (R, 3, H, W) uint8, square face crops, RGB; resized to the input size of the tower.

        Returns:
            (R, 257, d1) in the tower's dtype.

        Raises:
            ConditionError: the crops are not uint8, so their value range is unknown.
        """
        if crops.dtype != torch.uint8 or crops.ndim != 4 or crops.shape[1] != 3:
            raise ConditionError(
                f"face crops: got {crops.dtype} of shape {tuple(crops.shape)}, expected uint8 (R, 3, H, W) in RGB"
            )
        images = crops.to(self.vision.device, torch.float32) / 255.0
        size = (self.image_px, self.image_px)
        if images.shape[-2:] != size:
            images = functional.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        normalised = (images - self.mean) / self.std  # (R, 3, 224, 224)
        output = self.vision(pixel_values=normalised.to(self.vision.dtype), output_hidden_states=True)
        return output.hidden_states[self.layer]
