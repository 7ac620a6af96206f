"""Five points to the 112 x 112 crop that recognisers are trained on, differentiable in the pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hifidata.image.align import CHIP_PX, TEMPLATE_PX


def similarity_to_template(kps: Tensor) -> Tensor:
    """The rotation, scale and shift that bring five points closest to ``TEMPLATE_PX``, by least squares.

    Umeyama's solution without its reflection case, which in the plane is a division of complex numbers.

    Args:
        kps: (B, 5, 2) in pixels; gradients are not followed.

    Returns:
        (B, 2, 3) float32, picture pixels to crop pixels.
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
    """(B, 4, 2): corners of the aligned crop in the picture's pixels."""
    side = CHIP_PX - 1.0
    corners = torch.tensor([(0.0, 0.0), (side, 0.0), (side, side), (0.0, side)], device=kps.device)
    inverse = _inverse(similarity_to_template(kps))
    return corners @ inverse[:, :, :2].transpose(1, 2) + inverse[:, None, :, 2]


def align_faces(pictures: Tensor, kps: Tensor) -> Tensor:
    """Aligned faces, sampled bilinearly; the same pixels as ``cv2.warpAffine`` with a border of zeros.

    Args:
        pictures: (B, 3, H, W) float.
        kps: (B, 5, 2) in pixels of the pictures: both eyes, nose, both mouth corners.

    Returns:
        (B, 3, 112, 112) in the pictures' dtype.
    """
    height, width = pictures.shape[-2:]
    steps = torch.arange(CHIP_PX, device=pictures.device, dtype=torch.float32)
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    crop = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).view(1, -1, 3)  # (1, 112 * 112, 3)
    inverse = _inverse(similarity_to_template(kps.to(pictures.device)))
    source = crop @ inverse.transpose(1, 2)  # (B, 112 * 112, 2) in pixels
    size = torch.tensor([width, height], device=pictures.device)
    grid = ((2 * source + 1) / size - 1).view(-1, CHIP_PX, CHIP_PX, 2)
    return functional.grid_sample(pictures, grid.to(pictures.dtype), padding_mode="zeros", align_corners=False)


def _inverse(matrix: Tensor) -> Tensor:
    linear = torch.linalg.inv(matrix[:, :, :2])
    return torch.cat([linear, -linear @ matrix[:, :, 2:]], dim=2)
