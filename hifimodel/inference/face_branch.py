"""HiFi-Net's control branch: face tokens and landmark latents, computed once and the same at every step."""

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
    """What turns a person into a control branch.

    Args:
        hifinet: its config's choices decide about guidance and pooled text.
        refiner: makes face tokens.
        vision: the CLIP tower of the refiner's training.
        vae: the base's, in a dtype that it does not overflow in.
        device: where the nets compute; under offload they lie elsewhere until called.
        dtype: of the tokens.
    """

    hifinet: HiFiNet
    refiner: FaceRefiner
    vision: CLIPVisionModel
    vae: AutoencoderKL
    device: torch.device
    dtype: torch.dtype

    def branch(self, people: Sequence[PortraitCondition], size: tuple[int, int], is_guided: bool) -> Branch:
        """HiFi-Net's branch for P people.

        Args:
            people: one for all images, or one per prompt.
            size: height and width of the portraits, px.
            is_guided: whether there is an unconditional half; what it sees of faces is ``ModelConfig.face_in_uncond``.

        Raises:
            ConditionError: a landmark image has not the portrait's size, or the nets take other inputs.
        """
        choices = self.hifinet.choices
        return Branch(
            self.hifinet,
            condition=torch.cat([self.landmarks(person, size) for person in people]),  # (P, 4, H / 8, W / 8)
            tokens=self.tokens(people),
            uncond_tokens=self.no_face() if is_guided and choices.face_in_uncond != "same" else None,
            pooled=choices.pooled_text,
        )

    def tokens(self, people: Sequence[PortraitCondition]) -> Tensor:
        """(P, L * 33, d), L the least common multiple of the numbers of references."""
        parts = [self._tokens_of(person) for person in people]
        return pack_references(torch.cat(parts), [len(part) for part in parts])

    def landmarks(self, person: PortraitCondition, size: tuple[int, int]) -> Tensor:
        """(1, 4, H / 8, W / 8) z_lmk; the latent of black for "no landmarks"."""
        image_u8 = person.landmarks_u8
        if image_u8 is None:
            return black_latents(self.vae, *size)
        if image_u8.shape != (3, *size) or image_u8.dtype != torch.uint8:
            raise ConditionError(
                f"landmark image: {image_u8.dtype} of shape {tuple(image_u8.shape)}, expected uint8 {(3, *size)}; "
                "draw it in the size of the portrait"
            )
        return landmark_latents(self.vae, image_u8.unsqueeze(0))

    def no_face(self) -> Tensor:
        """(1, 33, d) tokens of "no reference"."""
        choices = self.hifinet.choices
        policy = choices.face_in_uncond
        if policy == "same":
            policy = "zeros"  # what training drops faces to, where it drops any
            if choices.face_drop_rate == 0:
                logger.warning(
                    "no references: in training this checkpoint always saw faces, so zeros stand in for them"
                )
        tokens = self.refiner.unconditional(policy, self._encoder.n_tokens)
        return tokens.to(self.device, self.dtype)

    def _tokens_of(self, person: PortraitCondition) -> Tensor:
        if person.clip_crops_u8 is None or person.embeddings is None:
            return self.no_face()
        clip_tokens = self._encoder(person.clip_crops_u8)  # (N, 257, d1)
        embeddings = person.embeddings.to(self.device, self.dtype)  # (N, d2)
        return self.refiner(clip_tokens.to(self.device, self.dtype), embeddings)  # (N, 33, d)

    @property
    def _encoder(self) -> FaceEncoder:
        return FaceEncoder(self.vision, self.hifinet.choices.clip_layer).to(self.vision.device)
