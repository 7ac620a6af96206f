"""BLIP-2: objects in front of the face, from a description or from the answer to a question.

Input: a square of the image around the face box, so that a microphone on a distant table does not count; and a prompt.
Output: text. In mode ``describe``, the stage searches the text for the recipe's terms, as in the paper. In mode ``ask``, the
answer is yes or no.

Source: paper, section 3.4; Li et al., BLIP-2, arXiv:2301.12597. The paper gives no prompt and no list of terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hifidata.core.errors import WeightsError
from hifidata.models.config import OcclusionCheckerConfig
from hifidata.models.protocols import F32, OcclusionAnswer, RgbU8
from hifidata.models.runtime.transformers import GeneratedText, VisionLanguageModel

SEEN_OVER_FACE = 2.0
"""Side of the input square over the face box's longer side; it includes hands at the chin, microphones and hats."""

MAX_TOKENS = {"describe": 40, "ask": 10}
COVERED = "something before the face"
"""Term for the answer yes."""


class Blip2Occlusion:
    """Describes faces, or answers a question about them.

    Args:
        folder: a BLIP-2 checkpoint with a T5 or an OPT language model.
        settings: mode, prompt and question.

    Raises:
        UsageError: torch or transformers is not installed.
        WeightsError: the folder has no BLIP-2 model.
    """

    def __init__(self, folder: Path, settings: OcclusionCheckerConfig) -> None:
        self._blip2 = VisionLanguageModel(folder, "occlusion")
        config = self._blip2.model.config
        if config.model_type != "blip-2" or config.image_token_index is None:
            raise WeightsError(
                f"{folder}: {config.model_type} without an image token, expected BLIP-2 of transformers 4.46 or newer; "
                "download it with `hifidata weights pull blip2_flan_t5_xl`"
            )
        self._blip2.processor.num_query_tokens = config.num_query_tokens  # old checkpoints do not set it
        self._settings = settings
        self.name = f"blip2/{folder.name}/{settings.mode}"

    def check(self, pictures: Sequence[RgbU8], xyxy_px: Sequence[F32]) -> list[OcclusionAnswer]:
        """Check the main face of each image, all in one batch.

        Args:
            pictures: (H, W, 3) uint8 sRGB each.
            xyxy_px: (4,) box of the main face in each.

        Raises:
            ModelError: the model failed.
        """
        settings = self._settings
        images = [Image.fromarray(around(rgb_u8, box)) for rgb_u8, box in zip(pictures, xyxy_px, strict=True)]
        prompt = settings.prompt if settings.mode == "describe" else f"Question: {settings.question} Answer:"
        # Without a text list, the processor would add no padding and no image tokens.
        inputs = self._blip2.processor(images=images, text=[prompt] * len(images), padding=True, return_tensors="pt")
        answers = self._blip2.write(inputs, MAX_TOKENS[settings.mode])
        return [_described(answer) if settings.mode == "describe" else _answered(answer) for answer in answers]


def around(rgb_u8: RgbU8, box: F32) -> RgbU8:
    """Cut out the square around a face box (4,), clipped to the image."""
    height, width = rgb_u8.shape[:2]
    centre, half = (box[:2] + box[2:]) / 2, SEEN_OVER_FACE / 2 * float(max(box[2] - box[0], box[3] - box[1]))
    x1, y1 = np.clip(np.floor(centre - half), 0, [width - 1, height - 1]).astype(int)
    x2, y2 = np.clip(np.ceil(centre + half), [x1 + 1, y1 + 1], [width, height]).astype(int)
    return np.ascontiguousarray(rgb_u8[y1:y2, x1:x2])


def _described(answer: GeneratedText) -> OcclusionAnswer:
    return OcclusionAnswer(answer.text, None, None)


def _answered(answer: GeneratedText) -> OcclusionAnswer:
    """Read yes or no; another answer counts as a description."""
    word = answer.text.lower().lstrip(" \"'").partition(" ")[0].strip(".,!\"'")
    terms = {"yes": (COVERED,), "no": ()}.get(word)
    return OcclusionAnswer(answer.text, terms, None)
