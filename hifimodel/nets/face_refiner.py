"""The face refiner: 33 face tokens per reference, from its CLIP tokens and identity embedding.

The ``R`` references of all samples form one batch. ``pack_references`` then concatenates the tokens of each sample, so the
refiner never processes padding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from hifimodel.config import ModelConfig
from hifimodel.errors import ConditionError


class FaceRefiner(ModelMixin, ConfigMixin):
    """A transformer decoder over the local and global features of one reference.

    Args:
        clip_dim: d1, width of the CLIP tokens: ``config.hidden_size`` of the image encoder.
        embedding_dim: d2, width of the identity embedding.
        refiner: a ``RefinerConfig`` as a mapping; stored in the checkpoint.
        learned_null: adds ``null_tokens``, the faces of the unconditional half of guidance.

    Source: section 3.2, Eq. 2-4. The paper gives neither norm, heads nor FFN width: see ``RefinerConfig``. A unit
    embedding is scaled by sqrt(d2), so that its entries are as large as those of CLIP tokens. Raw InsightFace embeddings
    have about that norm.
    """

    _no_split_modules = ("TransformerDecoderLayer",)

    @register_to_config
    def __init__(self, clip_dim: int, embedding_dim: int, refiner: dict[str, Any], learned_null: bool = False) -> None:
        super().__init__()
        dim, n_learnable = refiner["dim"], refiner["n_learnable_tokens"]
        self.local_in = nn.Linear(clip_dim, dim)
        self.global_in = nn.Linear(embedding_dim, dim)
        # One set for all references: they stay exchangeable, and their number is free.
        self.learnable_tokens = nn.Parameter(torch.randn(1, n_learnable, dim) / math.sqrt(dim))
        self.memory_norm = nn.LayerNorm(dim) if refiner["memory_norm"] else nn.Identity()
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(
                dim,
                refiner["n_heads"],
                refiner["ffn_dim"],
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=refiner["norm_first"],
            )
            for _ in range(refiner["n_layers"])
        )
        self.final_norm = nn.LayerNorm(dim) if refiner["final_norm"] else nn.Identity()
        if learned_null:
            self.null_tokens = nn.Parameter(torch.randn(1, 1 + n_learnable, dim) / math.sqrt(dim))

    @classmethod
    def from_model_config(cls, model: ModelConfig, clip_dim: int) -> FaceRefiner:
        """Make a new refiner with the choices of a config, for an image encoder of width ``clip_dim``."""
        return cls(clip_dim, model.embedder_dim, model.refiner.model_dump(), model.face_in_uncond == "learned")

    @property
    def n_tokens(self) -> int:
        """Tokens per reference: one global token and the learnable tokens; 33 in the paper."""
        return 1 + self.learnable_tokens.shape[1]

    def forward(self, clip_tokens: Tensor, embeddings: Tensor) -> Tensor:
        """Return the face tokens of every reference.

        Args:
            clip_tokens: (R, 257, d1), F_local.
            embeddings: (R, d2), F_global, L2 norm 1.

        Returns:
            (R, 33, d), F_face.

        Raises:
            ConditionError: the inputs do not match each other or the config.
        """
        self._check(clip_tokens, embeddings)
        local = self.local_in(clip_tokens)  # (R, 257, d)
        scaled = embeddings * math.sqrt(embeddings.shape[-1])
        face = self.global_in(scaled).unsqueeze(1)  # (R, 1, d)
        query = torch.cat([face, self.learnable_tokens.expand(len(face), -1, -1).to(face.dtype)], dim=1)  # (R, 33, d)
        memory = self.memory_norm(torch.cat([face, local], dim=1))  # (R, 258, d)
        for layer in self.layers:
            query = layer(query, memory)
        return self.final_norm(query)

    def unconditional(self, policy: str, n_clip_tokens: int) -> Tensor:
        """Return the (1, 33, d) face tokens of "no reference", for the policies ``zeros`` and ``learned``.

        Args:
            policy: ``ModelConfig.face_in_uncond``; ``same`` has no tokens of its own.
            n_clip_tokens: number of tokens of the image encoder, such as 257.

        Raises:
            ConditionError: this refiner was not trained with the policy.
        """
        if policy == "learned" and self.config["learned_null"]:
            return self.null_tokens
        if policy == "zeros":
            like = self.learnable_tokens
            return self(
                like.new_zeros(1, n_clip_tokens, self.config["clip_dim"]),
                like.new_zeros(1, self.config["embedding_dim"]),
            )
        raise ConditionError(
            f"unconditional faces: this checkpoint has no state for {policy!r}; use the policy of its training"
        )

    def _check(self, clip_tokens: Tensor, embeddings: Tensor) -> None:
        d1, d2 = self.config["clip_dim"], self.config["embedding_dim"]
        fits = clip_tokens.ndim == 3 and clip_tokens.shape[-1] == d1 and embeddings.shape == (len(clip_tokens), d2)
        if not fits:
            raise ConditionError(
                f"face refiner: got CLIP tokens {tuple(clip_tokens.shape)} and embeddings {tuple(embeddings.shape)}, "
                f"expected (R, tokens, {d1}) and (R, {d2}); use the image encoder and embedder of the checkpoint"
            )


def pack_references(tokens: Tensor, counts: Sequence[int], tile_to: int | None = None) -> Tensor:
    """Concatenate the face tokens of each sample's references.

    Samples of a batch have different numbers of references but need the same number of tokens. Zero padding would change
    the result, since a zero key receives attention. Repeating all references equally often does not: a softmax over k
    copies equals the softmax over one. So each sample is tiled to the least common multiple of the counts.

    Args:
        tokens: (R, T, d) with R = sum(counts), in the order of the samples.
        counts: references per sample, each at least 1.
        tile_to: references per sample after tiling; None: lcm(counts). A fixed value gives static shapes for compiled
            networks: 12 fits 1 to 4 references.

    Returns:
        (B, tile_to * T, d).

    Raises:
        ConditionError: the counts do not add up to R, or ``tile_to`` is not a multiple of one of them.
    """
    if not counts or min(counts) < 1 or sum(counts) != len(tokens):
        raise ConditionError(
            f"references: got {len(tokens)} for counts {list(counts)}; counts must be at least 1 and add up to them"
        )
    length = tile_to if tile_to is not None else math.lcm(*counts)
    if any(length % count for count in counts):
        raise ConditionError(
            f"references: counts {list(counts)} do not all divide tile_to {length}; use {math.lcm(length, *counts)}"
        )
    starts = itertools.accumulate(counts, initial=0)
    index = [start + place % count for start, count in zip(starts, counts, strict=False) for place in range(length)]
    if index == list(range(len(tokens))):
        return tokens.reshape(len(counts), -1, tokens.shape[-1])
    chosen = tokens[torch.tensor(index, device=tokens.device)]  # (B * length, T, d)
    return chosen.reshape(len(counts), -1, tokens.shape[-1])  # (B, length * T, d)
