"""Control branches: nets whose residuals are added up before the UNet sees them.

    branches = [
        Branch(hifinet, tokens=face_tokens, condition=landmark_latents),
        Branch(identity_net, tokens=instantid_tokens, condition=keypoint_image, scale=0.5),
        Branch(depth_net, condition=depth_image, end=0.6),  # no tokens of its own: it reads the prompt
    ]

Every branch has its own tokens, strength and part of the steps, which is what diffusers' ``MultiControlNetModel`` cannot
do: that one hands the same tokens to all of its nets.

Source: the paper's section 4.2, "Compatibility" (Fig. 6, together with InstantID); how the two are joined it does not say.
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
    """What is added to the UNet's skip connections.

    Args:
        down: one per skip connection, (B, C, h, w) each.
        mid: (B, C, h, w).
    """

    down: list[Tensor]
    mid: Tensor

    def __add__(self, other: Residuals) -> Residuals:
        return Residuals([a + b for a, b in zip(self.down, other.down, strict=True)], self.mid + other.mid)

    def twice(self) -> Residuals:
        """For both halves of guidance."""
        return Residuals([torch.cat([part, part]) for part in self.down], torch.cat([self.mid, self.mid]))

    def weighted(self, mask: Tensor) -> Residuals:
        """Times (B, 1, H, W), brought to each residual's size."""
        return Residuals([_weighted(part, mask) for part in self.down], _weighted(self.mid, mask))


@dataclass(frozen=True, eq=False)
class Branch:
    """A ControlNet, what it sees, and how much and when it counts.

    Batches may have one row for all images, one per prompt, or one per image.

    Args:
        net: any SDXL ``ControlNetModel``: HiFi-Net, InstantID's IdentityNet, a depth net.
        condition: what it takes as ``controlnet_cond``: landmark latents, or an image (B, 3, H, W) in [0, 1].
        tokens: (B, T, d) for its cross-attention; None: the prompt's.
        uncond_tokens: (B, U, d) in guidance's unconditional half, T a multiple of U; None: ``tokens`` in both halves.
        scale: factor on its residuals; at 0 the net does not run.
        start: share of the steps after which it begins, 0 to 1.
        end: share of the steps after which it ends.
        mask: (B, 1, H, W) float, 0 to 1, of any size: where in the image it counts; None: everywhere.
        pooled: ``zeros`` hides the prompt's pooled vector from it, as ``ModelConfig.pooled_text`` does.

    Raises:
        ConditionError: the range of steps is empty or outside of 0 to 1, or the two kinds of tokens do not fit.
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
        """Whether all of this step (0 to n_steps - 1) lies in the branch's range, and the branch counts at all."""
        return self.scale != 0 and step / n_steps >= self.start and (step + 1) / n_steps <= self.end

    @property
    def ignores_text(self) -> bool:
        """Whether both halves of guidance are the same to this net, so that it need run on one alone."""
        return self.tokens is not None and self.uncond_tokens is None and self.pooled == "zeros"

    def fitted(self, n_images: int, like: Tensor) -> Branch:
        """The same with one row per image, on the device and in the dtype of ``like``: done once, not at every step."""
        condition = _rows(self.condition, n_images, like)
        tokens, uncond, mask = (
            None if batch is None else _rows(batch, n_images, like)
            for batch in (self.tokens, self.uncond_tokens, self.mask)
        )
        if tokens is not None and uncond is not None:
            # Copies of all tokens leave attention as it is, and both halves then fit in one batch.
            uncond = uncond.repeat(1, tokens.shape[1] // uncond.shape[1], 1)
        return replace(self, condition=condition, tokens=tokens, uncond_tokens=uncond, mask=mask)


@dataclass(frozen=True, eq=False)
class StepInputs:
    """What the UNet sees at one step.

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
        """The second half alone."""
        latents, text, pooled, ids = (
            part.chunk(2)[1] for part in (self.latents, self.text, self.pooled, self.time_ids)
        )
        return StepInputs(latents, self.timestep, text, pooled, ids, is_guided=False)


def summed_residuals(branches: Sequence[Branch], inputs: StepInputs, step: int, n_steps: int) -> Residuals | None:
    """Runs the branches whose turn it is; None where it is nobody's, so that the UNet runs as if there were none.

    Args:
        branches: after ``Branch.fitted``.
        inputs: what the UNet is about to see.
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
