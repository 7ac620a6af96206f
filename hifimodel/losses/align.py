"""Alignment by five points to the chip of ``hifidata.image.align``, differentiable in the pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hifidata.image.align import CHIP_PX, TEMPLATE_PX


def similarity_to_template(kps: Tensor) -> Tensor:
    """Fit the rotation, scale and shift from five points to ``TEMPLATE_PX`` by least squares.

    Umeyama's solution without the reflection case; in the plane it is a division of complex numbers.

    Args:
        kps: (B, 5, 2) in pixels; no gradients flow to them.

    Returns:
        (B, 2, 3) float32, image pixels to crop pixels.
    """
    points = torch.view_as_complex(kps.detach().float().contiguous())  # (B, 5)
    template = torch.view_as_complex(torch.tensor(TEMPLATE_PX, device=kps.device))  # (5,)
    spread = points - points.mean(dim=1, keepdim=True)
    turn = (spread.conj() * (template - template.mean())).sum(1) / spread.abs().square().sum(1).clamp(min=1e-6)
    shift = template.mean() - turn * points.mean(dim=1)
    return torch.stack(
        [
            torch.stack([turn.real, -turn.imag, shift.real], dim=-1),
            torch.stack([turn.imag, turn.real, shift.imag], dim=-1),
        ],
        dim=1,
    )


def crop_corners(kps: Tensor) -> Tensor:
    """Return (B, 4, 2): corners of the aligned crop in image pixels."""
    side = CHIP_PX - 1.0
    corners = torch.tensor([(0.0, 0.0), (side, 0.0), (side, side), (0.0, side)], device=kps.device)
    inverse = _inverse(similarity_to_template(kps))
    return corners @ inverse[:, :, :2].transpose(1, 2) + inverse[:, None, :, 2]


def align_faces(images: Tensor, kps: Tensor) -> Tensor:
    """Sample aligned faces bilinearly; the pixels equal those of ``norm_crop``.

    Args:
        images: (B, 3, H, W) float.
        kps: (B, 5, 2) in image pixels: eyes, nose tip, mouth corners.

    Returns:
        (B, 3, 112, 112) in the dtype of the images; zeros outside the images.
    """
    height, width = images.shape[-2:]
    steps = torch.arange(CHIP_PX, device=images.device, dtype=torch.float32)
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    crop = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).view(1, -1, 3)  # (1, 112 * 112, 3)
    inverse = _inverse(similarity_to_template(kps.to(images.device)))
    source = crop @ inverse.transpose(1, 2)  # (B, 112 * 112, 2) in pixels
    size = torch.tensor([width, height], device=images.device)
    grid = ((2 * source + 1) / size - 1).view(-1, CHIP_PX, CHIP_PX, 2)
    return functional.grid_sample(images, grid.to(images.dtype), padding_mode="zeros", align_corners=False)


def _inverse(matrix: Tensor) -> Tensor:
    linear = torch.linalg.inv(matrix[:, :, :2])
    return torch.cat([linear, -linear @ matrix[:, :, 2:]], dim=2)
