"""SDXL's two text encoders: the last but one layer of both, and the pooled vector of the second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hifimodel.nets.loading import Base


@dataclass(frozen=True)
class TextFeatures:
    """Encoded prompts.

    Attributes:
        tokens: (B, 77, 2048) for the cross-attention of the UNet.
        pooled: (B, 1280), ``text_embeds`` of ``added_cond_kwargs``.
    """

    tokens: Tensor
    pooled: Tensor


@torch.no_grad()
def encode_prompts(base: Base, prompts: Sequence[str], empty_text: Literal["zeros", "encode"]) -> TextFeatures:
    """Encode a batch of prompts.

    Args:
        base: the frozen base.
        prompts: one per sample; "" for dropped text.
        empty_text: ``zeros``: dropped text is zeros, as in SDXL's training and pipeline; ``encode``: an encoded "".
    """
    hidden: list[Tensor] = []
    pooled: list[Tensor] = []
    pairs = ((base.tokenizer, base.text_encoder), (base.tokenizer_2, base.text_encoder_2))
    for tokenizer, encoder in pairs:
        tokens = tokenizer(
            list(prompts),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        output = encoder(tokens.input_ids.to(encoder.device), output_hidden_states=True)
        hidden.append(output.hidden_states[-2])  # (B, 77, 768) and (B, 77, 1280)
        pooled.append(output[0])
    features, second = torch.cat(hidden, dim=-1), pooled[-1].clone()  # the first encoder's pooled vector is not used
    if empty_text == "zeros":
        empty = torch.tensor([not prompt for prompt in prompts], device=features.device)
        features[empty], second[empty] = 0.0, 0.0
    return TextFeatures(features, second)
