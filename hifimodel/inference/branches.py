"""Control branches: networks whose residuals are summed for the UNet.

    branches = [
        Branch(hifinet, tokens=face_tokens, condition=landmark_latents),
        Branch(identity_net, tokens=instantid_tokens, condition=keypoint_image, scale=0.5),
        Branch(depth_net, condition=depth_image, end=0.6),  # without own tokens: those of the prompt
    ]

Every branch has its own tokens, scale and range of steps. diffusers' ``MultiControlNetModel`` cannot do this: it passes the
same tokens to all its networks.

Source: paper 4.2, "Compatibility" (Fig. 6, with InstantID). The paper does not state how the two are combined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from diffusers import ControlNetModel
from torch import Tensor
from torch.nn import functional

from hifimodel.errors import ConditionError


@dataclass(frozen=True, eq=False)
class Residuals:
    """Residuals for the skip connections of the UNet.

    Args:
        down: one per skip connection, (B, C, h, w) each.
        mid: (B, C, h, w).
    """

    down: list[Tensor]
    mid: Tensor

    def __add__(self, other: Residuals) -> Residuals:
        return Residuals([a + b for a, b in zip(self.down, other.down, strict=True)], self.mid + other.mid)

    def twice(self) -> Residuals:
        """Return the residuals for both halves of guidance."""
        return Residuals([torch.cat([part, part]) for part in self.down], torch.cat([self.mid, self.mid]))

    def weighted(self, mask: Tensor) -> Residuals:
        """Return the residuals times a mask (B, 1, H, W), resized to each residual."""
        return Residuals([_weighted(part, mask) for part in self.down], _weighted(self.mid, mask))


@dataclass(frozen=True, eq=False)
class Branch:
    """A ControlNet with its inputs, scale, range of steps and mask.

    Batches have one row for all images, one per prompt, or one per image.

    Args:
        net: any SDXL ``ControlNetModel``: HiFi-Net, InstantID's IdentityNet, a depth network.
        condition: ``controlnet_cond`` of the network: landmark latents, or an image (B, 3, H, W) in [0, 1].
        tokens: (B, T, d) for cross-attention; None: those of the prompt.
        uncond_tokens: (B, U, d) for the unconditional half of guidance, T a multiple of U; None: ``tokens`` in both halves.
        scale: factor of the residuals; with 0 the network does not run.
        start: share of the steps at which the branch starts, 0 to 1.
        end: share of the steps at which it ends.
        mask: (B, 1, H, W) float, 0 to 1, of any size: weight per position; None: 1 everywhere.
        pooled: ``zeros`` replaces the pooled vector of the prompt, see ``ModelConfig.pooled_text``.

    Raises:
        ConditionError: the range of steps is empty or not in 0 to 1, or the numbers of tokens do not match.
    """

    net: ControlNetModel
    condition: Tensor
    tokens: Tensor | None = None
    uncond_tokens: Tensor | None = None
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    mask: Tensor | None = None
    pooled: Literal["prompt", "zeros"] = "prompt"

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise ConditionError(
                f"control branch: starts at {self.start} and ends at {self.end}; expected 0 <= start < end <= 1, as shares "
                "of the steps"
            )
        if self.uncond_tokens is not None and (
            self.tokens is None or self.tokens.shape[1] % self.uncond_tokens.shape[1]
        ):
            got = None if self.tokens is None else self.tokens.shape[1]
            raise ConditionError(
                f"control branch: {self.uncond_tokens.shape[1]} unconditional tokens for {got} tokens; their number must "
                "divide that of the branch's own tokens"
            )

    def is_active(self, step: int, n_steps: int) -> bool:
        """Return whether the whole step (0 to n_steps - 1) is in the range of the branch and the scale is not 0."""
        return self.scale != 0 and step / n_steps >= self.start and (step + 1) / n_steps <= self.end

    @property
    def ignores_text(self) -> bool:
        """Whether both halves of guidance have equal inputs, so that the network runs on one half only."""
        return self.tokens is not None and self.uncond_tokens is None and self.pooled == "zeros"

    def fitted(self, n_images: int, like: Tensor) -> Branch:
        """Return the branch with one row per image, on the device and in the dtype of ``like``; called before all steps."""
        condition = _rows(self.condition, n_images, like)
        tokens, uncond, mask = (
            None if batch is None else _rows(batch, n_images, like)
            for batch in (self.tokens, self.uncond_tokens, self.mask)
        )
        if tokens is not None and uncond is not None:
            # Repeating all tokens does not change attention, and both halves then fit in one batch.
            uncond = uncond.repeat(1, tokens.shape[1] // uncond.shape[1], 1)
        return replace(self, condition=condition, tokens=tokens, uncond_tokens=uncond, mask=mask)


@dataclass(frozen=True, eq=False)
class StepInputs:
    """The inputs of the UNet at one step.

    Args:
        latents: (B, 4, h, w), scaled by the scheduler; with guidance B = 2 x images, the unconditional half first.
        timestep: of the scheduler.
        text: (B, 77, d).
        pooled: (B, 1280).
        time_ids: (B, 6).
        is_guided: whether there are two halves.
    """

    latents: Tensor
    timestep: Tensor
    text: Tensor
    pooled: Tensor
    time_ids: Tensor
    is_guided: bool

    @property
    def added(self) -> dict[str, Any]:
        """SDXL's ``added_cond_kwargs``."""
        return {"text_embeds": self.pooled, "time_ids": self.time_ids}

    def conditional_half(self) -> StepInputs:
        """Return the second half only."""
        latents, text, pooled, ids = (
            part.chunk(2)[1] for part in (self.latents, self.text, self.pooled, self.time_ids)
        )
        return StepInputs(latents, self.timestep, text, pooled, ids, is_guided=False)


def summed_residuals(branches: Sequence[Branch], inputs: StepInputs, step: int, n_steps: int) -> Residuals | None:
    """Run the active branches; returns None if no branch is active.

    Args:
        branches: after ``Branch.fitted``.
        inputs: of the UNet at this step.
        step: 0 to n_steps - 1.
        n_steps: number of denoising steps.
    """
    total: Residuals | None = None
    for branch in branches:
        if branch.is_active(step, n_steps):
            own = _run(branch, inputs)
            total = own if total is None else total + own
    return total


def _run(branch: Branch, inputs: StepInputs) -> Residuals:
    runs_once = inputs.is_guided and branch.ignores_text
    if runs_once:
        inputs = inputs.conditional_half()
    tokens, condition, mask = inputs.text, branch.condition, branch.mask
    if branch.tokens is not None:
        tokens = branch.tokens
    if inputs.is_guided:
        condition = torch.cat([condition, condition])
        mask = None if mask is None else torch.cat([mask, mask])
        if branch.tokens is not None:
            tokens = torch.cat([branch.tokens if branch.uncond_tokens is None else branch.uncond_tokens, branch.tokens])
    hides_text = branch.pooled == "zeros"
    down, mid = branch.net(
        inputs.latents,
        inputs.timestep,
        encoder_hidden_states=tokens,
        controlnet_cond=condition,
        conditioning_scale=branch.scale,
        added_cond_kwargs=inputs.added | ({"text_embeds": torch.zeros_like(inputs.pooled)} if hides_text else {}),
        return_dict=False,
    )
    residuals = Residuals(list(down), mid)
    if mask is not None:
        residuals = residuals.weighted(mask)
    return residuals.twice() if runs_once else residuals


def _weighted(residual: Tensor, mask: Tensor) -> Tensor:
    return residual * functional.interpolate(mask, residual.shape[-2:], mode="area")


def _rows(batch: Tensor, n_images: int, like: Tensor) -> Tensor:
    if n_images % len(batch):
        raise ConditionError(
            f"control branch: a batch of {len(batch)} for {n_images} images; give one row for all, one per prompt, or "
            "one per image"
        )
    return batch.to(like.device, like.dtype).repeat_interleave(n_images // len(batch), dim=0)
