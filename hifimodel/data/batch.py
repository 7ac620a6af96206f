"""A batch of training samples as tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hifimodel.data.group import Group


@dataclass(frozen=True, eq=False)
class Batch:
    """B samples with R references in total.

    Images are bytes, a quarter of their float size. They are converted to floats on the device that uses them.

    Attributes:
        pixels_u8: (B, S, S, 3) uint8 RGB targets.
        landmarks_u8: (B, S, S, 3) uint8 RGB, black background: expression and pose of the target, shape of a reference.
        captions: "" for dropped text.
        time_ids: (B, 6) float32, in SDXL's order: height and width of the photo, top and left of the crop, height and
            width of the target.
        target_kps: (B, 5, 2) float32, pixels of S.
        reference_clip: (R, 3, clip, clip) uint8 RGB crops around the face, not normalised.
        reference_faces: (R, 3, 112, 112) uint8 RGB aligned faces.
        reference_embeddings: (R, d2) float32, as stored.
        counts: references of each sample; their sum is R, and references are in the order of the samples.
        keys: of the targets.
        reference_keys: R keys of the references.
        position: state from which a ``Loader`` continues after this batch.
    """

    pixels_u8: Tensor
    landmarks_u8: Tensor
    captions: list[str]
    time_ids: Tensor
    target_kps: Tensor
    reference_clip: Tensor
    reference_faces: Tensor
    reference_embeddings: Tensor
    counts: list[int]
    keys: list[str]
    reference_keys: list[str]
    position: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pixel_values(self) -> Tensor:
        """Targets as (B, 3, S, S) float32 in [-1, 1], on the same device; computed at each access."""
        return _signed(self.pixels_u8)

    @property
    def landmark_pixels(self) -> Tensor:
        """Landmark images as (B, 3, S, S) float32 in [-1, 1], on the same device; computed at each access."""
        return _signed(self.landmarks_u8)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on a device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **changed)


def collate(groups: Sequence[Group]) -> Batch:
    """Stack samples; ``position`` stays empty."""
    references = [reference for group in groups for reference in group.references]
    return Batch(
        pixels_u8=_stacked([group.target_u8 for group in groups]),  # (B, S, S, 3)
        landmarks_u8=_stacked([group.landmarks_u8 for group in groups]),  # (B, S, S, 3)
        captions=[group.caption for group in groups],
        time_ids=_stacked([group.time_ids for group in groups]),  # (B, 6)
        target_kps=_stacked([group.target_kps for group in groups]),  # (B, 5, 2)
        reference_clip=_stacked([r.clip_u8.transpose(2, 0, 1) for r in references]),  # (R, 3, clip, clip)
        reference_faces=_stacked([r.face_u8.transpose(2, 0, 1) for r in references]),  # (R, 3, 112, 112)
        reference_embeddings=torch.from_numpy(np.concatenate([group.embeddings for group in groups])),  # (R, d2)
        counts=[len(group.references) for group in groups],
        keys=[group.key for group in groups],
        reference_keys=[key for group in groups for key in group.reference_keys],
    )


def _stacked(arrays: Sequence[np.ndarray[Any, Any]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(arrays)))


def _signed(pixels_u8: Tensor) -> Tensor:
    channels_first = pixels_u8.permute(0, 3, 1, 2)  # (B, 3, S, S)
    return channels_first.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1.0)
