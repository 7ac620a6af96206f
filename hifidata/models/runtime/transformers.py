"""Vision-language models of ``transformers``, opened from a folder; the base of BLIP-2 and of local captioners.

Only safetensors files are read. No code of the folder runs, and nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from hifidata.core.errors import ModelError, UsageError, WeightsError
from hifidata.models.requirements import TRANSFORMERS


@dataclass(frozen=True)
class GeneratedText:
    """Text that a model generated, without the prompt.

    Attributes:
        text: the text.
        was_cut: whether the maximum number of tokens was reached.
    """

    text: str
    was_cut: bool


class VisionLanguageModel:
    """A vision-language model with its processor: in bfloat16 on a GPU (float16 if unsupported), in float32 on the CPU.

    Args:
        folder: a folder of ``save_pretrained``, or a snapshot of a Hugging Face repository.
        stage: recipe section for messages, such as ``occlusion``.

    Raises:
        UsageError: torch or transformers is not installed.
        WeightsError: the folder has no complete vision-language model.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        try:
            torch, transformers, safetensors = map(import_module, ("torch", "transformers", "safetensors"))
        except ImportError as error:
            raise UsageError(
                f"{stage}.model: this model needs {error.name or error}, which cannot be imported; {TRANSFORMERS.remedy}"
            ) from error
        self._torch: Any = torch
        transformers.utils.logging.disable_progress_bar()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        gpu_dtype = torch.bfloat16 if self.device == "cuda" and torch.cuda.is_bf16_supported() else torch.float16
        self.dtype = gpu_dtype if self.device == "cuda" else torch.float32
        try:
            # A fixed image backend: the two backends of transformers round differently.
            self.processor: Any = transformers.AutoProcessor.from_pretrained(
                folder, backend="pil", local_files_only=True
            )
            self.model: Any = transformers.AutoModelForImageTextToText.from_pretrained(
                folder, dtype=self.dtype, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
            raise WeightsError(
                f"{folder}: not a complete vision-language model: {one_line(error)}; download it again with "
                "`hifidata weights pull`, or name another folder"
            ) from error
        self.model = self.model.to(self.device).eval()
        if self.processor.tokenizer.pad_token_id is None:
            self.processor.tokenizer.pad_token = self.processor.tokenizer.eos_token
        self.processor.tokenizer.padding_side = "left"  # generated text must start directly after each prompt

    def write(self, inputs: Any, max_tokens: int) -> list[GeneratedText]:
        """Generate text for a batch by greedy decoding.

        Args:
            inputs: output of the processor; (B, ...) each.
            max_tokens: maximum number of generated tokens.

        Raises:
            ModelError: the model failed, for example because of too little memory.
        """
        torch = self._torch
        try:
            with torch.inference_mode():
                ids = self.model.generate(
                    **inputs.to(self.device, self.dtype), max_new_tokens=max_tokens, do_sample=False, num_beams=1
                )  # (B, P + N), or (B, 1 + N) of an encoder-decoder
        except (RuntimeError, ValueError, IndexError) as error:
            raise ModelError(f"{type(self.model).__name__} failed: {one_line(error)}") from error
        if "input_ids" in inputs and not self.model.config.is_encoder_decoder:
            ids = ids[:, inputs["input_ids"].shape[1] :]  # without the prompt: (B, N)
        texts = self.processor.batch_decode(ids, skip_special_tokens=True)
        return [
            GeneratedText(text.strip(), self._was_cut(row, max_tokens)) for text, row in zip(texts, ids, strict=True)
        ]

    def _was_cut(self, ids: Any, max_tokens: int) -> bool:
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, Sequence) else [ends]
        return len(ids) >= max_tokens and not any(int(token) in ends for token in ids)


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__
