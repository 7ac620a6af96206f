"""A model that looks and writes, opened by ``transformers`` from a folder: what BLIP-2 and local captioners build on.

Weights are read from safetensors only, code from nowhere but the package, and nothing is fetched.
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
class Written:
    """What a model wrote, without the prompt.

    Attributes:
        text: its words.
        was_cut: whether it ran into the limit of tokens.
    """

    text: str
    was_cut: bool


class LookAndWrite:
    """Processor and model. On a GPU in bfloat16, or float16 where the GPU knows none; on CPU in float32.

    Args:
        folder: as ``save_pretrained`` leaves it, or a snapshot of a Hugging Face repository.
        stage: for messages, such as ``occlusion``.

    Raises:
        UsageError: torch or transformers is not installed.
        WeightsError: the folder holds no complete model of this kind.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        try:
            torch, transformers, safetensors = map(import_module, ("torch", "transformers", "safetensors"))
        except ImportError as error:
            raise UsageError(
                f"{stage}.model: {error.name or error} does not load, which this model needs; {TRANSFORMERS.remedy}"
            ) from error
        self._torch: Any = torch
        transformers.utils.logging.disable_progress_bar()  # a worker's stderr is no place for it
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        gpu_dtype = torch.bfloat16 if self.device == "cuda" and torch.cuda.is_bf16_supported() else torch.float16
        self.dtype = gpu_dtype if self.device == "cuda" else torch.float32
        try:
            # One image backend everywhere: the two that exist round differently.
            self.processor: Any = transformers.AutoProcessor.from_pretrained(
                folder, backend="pil", local_files_only=True
            )
            self.model: Any = transformers.AutoModelForImageTextToText.from_pretrained(
                folder, dtype=self.dtype, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
            raise WeightsError(
                f"{folder}: no complete model that looks and writes: {one_line(error)}; get it again with "
                "`hifidata weights pull`, or name another folder"
            ) from error
        self.model = self.model.to(self.device).eval()
        if self.processor.tokenizer.pad_token_id is None:
            self.processor.tokenizer.pad_token = self.processor.tokenizer.eos_token
        self.processor.tokenizer.padding_side = "left"  # what is written begins where every prompt ends

    def write(self, inputs: Any, max_tokens: int) -> list[Written]:
        """Runs the model greedily on a batch.

        Args:
            inputs: what the processor made; (B, ...) each.
            max_tokens: of one answer.

        Raises:
            ModelError: the model broke, for example for lack of memory.
        """
        torch = self._torch
        try:
            with torch.inference_mode():
                ids = self.model.generate(
                    **inputs.to(self.device, self.dtype), max_new_tokens=max_tokens, do_sample=False, num_beams=1
                )  # (B, P + N), or (B, 1 + N) of an encoder-decoder
        except (RuntimeError, ValueError, IndexError) as error:
            raise ModelError(f"{type(self.model).__name__} broke: {one_line(error)}") from error
        if "input_ids" in inputs and not self.model.config.is_encoder_decoder:
            ids = ids[:, inputs["input_ids"].shape[1] :]  # it repeats its prompt: (B, N)
        texts = self.processor.batch_decode(ids, skip_special_tokens=True)
        return [Written(text.strip(), self._was_cut(row, max_tokens)) for text, row in zip(texts, ids, strict=True)]

    def _was_cut(self, ids: Any, max_tokens: int) -> bool:
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, Sequence) else [ends]
        return len(ids) >= max_tokens and not any(int(token) in ends for token in ids)


def one_line(error: BaseException) -> str:
    """An error's words on one line, not endless."""
    return " ".join(str(error).split())[:300] or type(error).__name__
