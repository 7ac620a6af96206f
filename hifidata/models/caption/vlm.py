"""Captions from a vision-language model in this process: any image-text-to-text model of transformers with a chat template.

It is slower than a server that batches over all workers (``openai``), but needs no server.

Source: paper, section 3.4, with another model than its Yi-Vision.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from hifidata.core.errors import ModelError, WeightsError
from hifidata.image.crop import reduced
from hifidata.models.caption.cleaning import description_of
from hifidata.models.config import CaptionerConfig
from hifidata.models.protocols import Description, RgbU8
from hifidata.models.runtime.transformers import VisionLanguageModel, one_line


class VlmCaptioner:
    """Describes portraits in batches.

    Args:
        folder: of the model.
        settings: the recipe's caption section.

    Raises:
        UsageError: torch or transformers is not installed.
        WeightsError: the folder holds no such model, or the model has no chat template.
    """

    def __init__(self, folder: Path, settings: CaptionerConfig) -> None:
        self._vlm = VisionLanguageModel(folder, "caption")
        if not getattr(self._vlm.processor, "chat_template", None):
            raise WeightsError(
                f"{folder}: has no chat template; captions need a model that is tuned to follow instructions"
            )
        self._settings = settings
        self.name = f"vlm/{folder.name}"
        self.batch_size = settings.batch_size

    def describe(self, portraits: Sequence[RgbU8]) -> list[Description]:
        """Return one description per portrait, all in one batch.

        Args:
            portraits: (H, W, 3) uint8 sRGB each.

        Raises:
            ModelError: the model failed, or its processor refused a picture.
        """
        settings = self._settings
        chats = [self._chat(Image.fromarray(reduced(portrait, settings.image_px))) for portrait in portraits]
        try:
            inputs = self._vlm.processor.apply_chat_template(
                chats, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", padding=True
            )
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ModelError(f"{self.name}: its processor refused a batch: {one_line(error)}") from error
        written = self._vlm.write(inputs, settings.max_tokens)
        return [description_of(answer.text, answer.was_cut, settings.max_characters) for answer in written]

    def _chat(self, image: Image.Image) -> list[dict[str, Any]]:
        content = [{"type": "image", "image": image}, {"type": "text", "text": self._settings.prompt_text}]
        return [{"role": "user", "content": content}]
