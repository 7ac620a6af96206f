"""CLIP's image features of a face crop, for CLIP_f."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hifidata.core.errors import WeightsError
from hifidata.models.protocols import F32, RgbU8
from hifimodel.errors import one_line


def load_clip(folder: Path) -> Callable[[RgbU8], F32]:
    """Load CLIP's image features after the projection: a function from a square crop (H, H, 3) uint8 to (d,) with L2 norm 1.

    Raises:
        WeightsError: the folder contains no CLIP model.
    """
    import torch
    from transformers import CLIPVisionModelWithProjection

    from hifimodel.nets.face_encoder import CLIP_MEAN, CLIP_STD
    from hifimodel.nets.loading import LOAD_ERRORS, require_all_weights

    try:
        loaded: Any = CLIPVisionModelWithProjection.from_pretrained(
            str(folder), local_files_only=True, output_loading_info=True
        )
        model, report = loaded
        require_all_weights(report)
        model.eval()
    except LOAD_ERRORS as error:
        raise WeightsError(
            f"--clip {folder}: cannot be read as a CLIP model ({one_line(error, 120)}); give a folder in "
            "transformers' layout, for example a copy of openai/clip-vit-large-patch14"
        ) from error
    side_px = model.config.image_size
    mean, std = (np.array(values, np.float32) for values in (CLIP_MEAN, CLIP_STD))

    @torch.inference_mode()
    def features(crop_u8: RgbU8) -> F32:
        way = cv2.INTER_AREA if crop_u8.shape[0] > side_px else cv2.INTER_CUBIC
        pixels = (cv2.resize(crop_u8, (side_px, side_px), interpolation=way).astype(np.float32) / 255 - mean) / std
        found = model(pixel_values=torch.from_numpy(pixels.transpose(2, 0, 1))[None]).image_embeds[0].numpy()
        return np.asarray(found / np.linalg.norm(found), np.float32)

    return features
