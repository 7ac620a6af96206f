"""The check of generated images for nudity.

* A check is a function from PIL images to one bool each, True for "do not show". ``HiFiPortraitPipeline.safety_check`` holds
  it. Flagged images become black, and ``nsfw_content_detected`` names them.
* The check is on by default. ``python -m hifimodel.generate`` loads Stable Diffusion's CLIP-based checker from the folder of
  ``--safety-checker``, else from the models that are already on this machine. Nothing is downloaded.
* Without a checker, images are generated and one line on stderr says that they were not checked. A refusal would only lead
  users to disable the check.
* ``--no-safety-check``, or ``pipeline.requires_safety_check = False``, disables both the check and the line.

Source: the paper's appendix D.3 recommends a check, since prompts without clothing may give nude portraits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image, ImageOps

from hifidata.core.errors import WeightsError
from hifimodel.errors import one_line
from hifimodel.nets.face_encoder import CLIP_MEAN, CLIP_STD

SafetyCheck = Callable[[Sequence[Image.Image]], list[bool]]

HUB_NAME = "CompVis/stable-diffusion-safety-checker"


class ClipSafetyCheck:
    """Stable Diffusion's checker: CLIP's image embedding against a list of concepts.

    Args:
        net: the checker; stays on its device, the CPU by default.
    """

    def __init__(self, net: StableDiffusionSafetyChecker) -> None:
        self._net = net.eval()

    def __call__(self, images: Sequence[Image.Image]) -> list[bool]:
        """Return one bool per image, True for "do not show"."""
        side_px = self._net.config.vision_config.image_size
        size = (side_px, side_px)
        fitted = [ImageOps.fit(image.convert("RGB"), size, Image.Resampling.BICUBIC) for image in images]
        values = (np.stack([np.asarray(image, np.float32) for image in fitted]) / 255 - CLIP_MEAN) / CLIP_STD
        inputs = torch.from_numpy(values.astype(np.float32)).permute(0, 3, 1, 2)  # (B, 3, 224, 224)
        _, flagged = self._net(inputs.to(self._net.device, self._net.dtype), [np.zeros(1) for _ in images])
        return [bool(flag) for flag in flagged]


def find_safety_check(folder: Path | None) -> SafetyCheck | None:
    """Load the checker of a folder, or the one on this machine; returns None if there is none.

    Args:
        folder: in transformers' layout; None: the downloaded models.

    Raises:
        WeightsError: the given folder contains no checker.
    """
    try:
        net = StableDiffusionSafetyChecker.from_pretrained(str(folder or HUB_NAME), local_files_only=True)
    except (OSError, ValueError) as error:
        if folder is None:
            return None
        raise WeightsError(
            f"--safety-checker {folder}: cannot be loaded ({one_line(error)}); expected a copy of {HUB_NAME}"
        ) from error
    return ClipSafetyCheck(net)
