"""HiFi-Net's control branch: face tokens and landmark latents, computed once for all steps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPVisionModel

from hifimodel.errors import ConditionError
from hifimodel.inference.branches import Branch
from hifimodel.inference.conditions import PortraitCondition
from hifimodel.nets.face_encoder import FaceEncoder
from hifimodel.nets.face_refiner import FaceRefiner, pack_references
from hifimodel.nets.hifinet import HiFiNet, black_latents, landmark_latents

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FaceNets:
    """The networks that make a control branch from a condition.

    Args:
        hifinet: its choices define guidance and pooled text.
        refiner: makes face tokens.
        vision: the CLIP tower of the refiner's training.
        vae: the VAE of the base, in a dtype without overflow.
        device: of the computation; with offload the networks are elsewhere until called.
        dtype: of the tokens.
    """

    hifinet: HiFiNet
    refiner: FaceRefiner
    vision: CLIPVisionModel
    vae: AutoencoderKL
    device: torch.device
    dtype: torch.dtype

    def branch(self, conditions: Sequence[PortraitCondition], size: tuple[int, int], is_guided: bool) -> Branch:
        """Make HiFi-Net's branch for P conditions.

        Args:
            conditions: one for all images, or one per prompt.
            size: height and width of the portraits, px.
            is_guided: whether there is an unconditional half; its faces follow ``ModelConfig.face_in_uncond``.

        Raises:
            ConditionError: a landmark image does not have the size of the portrait, or the networks take other inputs.
        """
        choices = self.hifinet.choices
        return Branch(
            self.hifinet,
            condition=torch.cat([self.landmarks(condition, size) for condition in conditions]),  # (P, 4, H / 8, W / 8)
            tokens=self.tokens(conditions),
            uncond_tokens=self.no_face() if is_guided and choices.face_in_uncond != "same" else None,
            pooled=choices.pooled_text,
        )

    def tokens(self, conditions: Sequence[PortraitCondition]) -> Tensor:
        """Return (P, L * 33, d), with L the least common multiple of the numbers of references."""
        parts = [self._tokens_of(condition) for condition in conditions]
        return pack_references(torch.cat(parts), [len(part) for part in parts])

    def landmarks(self, condition: PortraitCondition, size: tuple[int, int]) -> Tensor:
        """Return (1, 4, H / 8, W / 8) z_lmk; the latent of black for "no landmarks"."""
        image_u8 = condition.landmarks_u8
        if image_u8 is None:
            return black_latents(self.vae, *size)
        if image_u8.shape != (3, *size) or image_u8.dtype != torch.uint8:
            raise ConditionError(
                f"landmark image: {image_u8.dtype} of shape {tuple(image_u8.shape)}, expected uint8 {(3, *size)}; "
                "draw it in the size of the portrait"
            )
        return landmark_latents(self.vae, image_u8.unsqueeze(0))

    def no_face(self) -> Tensor:
        """Return (1, 33, d) tokens of "no reference"."""
        choices = self.hifinet.choices
        policy = choices.face_in_uncond
        if policy == "same":
            policy = "zeros"  # the tokens of dropped faces in training
            if choices.face_drop_rate == 0:
                logger.warning("no references: this checkpoint was always trained with faces, so zeros replace them")
        tokens = self.refiner.unconditional(policy, self._encoder.n_tokens)
        return tokens.to(self.device, self.dtype)

    def _tokens_of(self, condition: PortraitCondition) -> Tensor:
        if condition.clip_crops_u8 is None or condition.embeddings is None:
            return self.no_face()
        clip_tokens = self._encoder(condition.clip_crops_u8)  # (N, 257, d1)
        embeddings = condition.embeddings.to(self.device, self.dtype)  # (N, d2)
        return self.refiner(clip_tokens.to(self.device, self.dtype), embeddings)  # (N, 33, d)

    @property
    def _encoder(self) -> FaceEncoder:
        return FaceEncoder(self.vision, self.hifinet.choices.clip_layer).to(self.vision.device)
