"""Whether generated images show nudity. The one place that says how this is decided.

* A check is any function from PIL images to one bool each, True for "do not show". ``HiFiPortraitPipeline.safety_check``
  holds it; flagged images come back black, and ``nsfw_content_detected`` says which.
* It is on by default. ``python -m hifimodel.generate`` looks for Stable Diffusion's CLIP-based checker in the folder that
  ``--safety-checker`` names, else among the models already downloaded on this machine. Nothing is fetched.
* Where no check is to be had, images are still made, and one line on stderr says that they were not checked: refusing would
  only teach people to switch checking off for good.
* ``--no-safety-check``, or ``pipeline.requires_safety_check = False``, is the switch: no check, no line.

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
from hifimodel.nets.face_encoder import CLIP_MEAN, CLIP_STD

SafetyCheck = Callable[[Sequence[Image.Image]], list[bool]]

HUB_NAME = "CompVis/stable-diffusion-safety-checker"


class ClipSafetyCheck:
    """Stable Diffusion's checker: CLIP's image embedding against a list of concepts.

    Args:
        net: the checker; stays where it is, on the CPU unless moved.
    """

    def __init__(self, net: StableDiffusionSafetyChecker) -> None:
        self._net = net.eval()

    def __call__(self, images: Sequence[Image.Image]) -> list[bool]:
        """One bool per image, True for "do not show"."""
        side_px = self._net.config.vision_config.image_size
        size = (side_px, side_px)
        fitted = [ImageOps.fit(image.convert("RGB"), size, Image.Resampling.BICUBIC) for image in images]
        values = (np.stack([np.asarray(image, np.float32) for image in fitted]) / 255 - CLIP_MEAN) / CLIP_STD
        inputs = torch.from_numpy(values.astype(np.float32)).permute(0, 3, 1, 2)  # (B, 3, 224, 224)
        _, flagged = self._net(inputs.to(self._net.device, self._net.dtype), [np.zeros(1) for _ in images])
        return [bool(flag) for flag in flagged]


def find_safety_check(folder: Path | None) -> SafetyCheck | None:
    """The checker of a folder, or the one that this machine already has; None where it has none.

    Args:
        folder: in transformers' layout; None looks among the downloaded models.

    Raises:
        WeightsError: a folder was named and holds no checker.
    """
    try:
        net = StableDiffusionSafetyChecker.from_pretrained(str(folder or HUB_NAME), local_files_only=True)
    except (OSError, ValueError) as error:
        if folder is None:
            return None
        raise WeightsError(
            f"--safety-checker {folder}: cannot be loaded ({' '.join(str(error).split())[:200]}); expected a copy of {HUB_NAME}"
        ) from error
    return ClipSafetyCheck(net)
