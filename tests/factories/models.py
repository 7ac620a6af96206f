"""Tiny transformers models made by tests: a real tokenizer and processor, random weights, the files of a real checkpoint.

What a test with such a model proves is loading, batching, prompts and what becomes of the output. Its answers mean nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = ["question", ":", "answer", "is", "there", "a", "hand", "or", "an", "object", "in", "front", "of", "the", "face", "?", "describe", "this", "portrait", "please", "do", "not", "poses", "facial", "expressions", "and", "hair", "coat", "wall", "glass", "brick", "green", "brown", "person", "photo", "yes", "no", "user", "assistant"]  # fmt: skip
SPECIAL = ["<pad>", "</s>", "<unk>", "<image>"]


def tokenizer_of(words: list[str] = WORDS) -> Any:
    """A word-level tokenizer that knows these words in lower case."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*SPECIAL, *words]))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", bos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<image>"], padding_side="right",
    )  # fmt: skip


def make_talkative(model: Any) -> None:
    """Random words that follow from all that was seen, and never one of the special tokens: it has no end."""
    import torch

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(std=0.3)
        head = model.get_output_embeddings().weight
        head.normal_()
        head[: len(SPECIAL)] = 0.0


def tiny_blip2(folder: Path, language_model: str) -> Path:
    """A BLIP-2 of 70,000 random weights; ``language_model`` is ``opt`` (repeats its prompt) or ``t5`` (does not)."""
    import torch
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, OPTConfig, T5Config
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    torch.manual_seed(0)
    tokenizer = tokenizer_of()
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
    vocabulary = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1}
    text: Any = (
        OPTConfig(
            **vocabulary, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=37, word_embed_proj_dim=32,
            max_position_embeddings=128, bos_token_id=1,
        )
        if language_model == "opt"
        else T5Config(**vocabulary, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, decoder_start_token_id=0)
    )  # fmt: skip
    config = Blip2Config(
        vision_config={**small, "image_size": 30, "patch_size": 2, "initializer_range": 0.3},
        qformer_config={**small, "vocab_size": 30, "initializer_range": 0.3},
        text_config=text.to_dict(),
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = Blip2ForConditionalGeneration(config)
    with torch.no_grad():
        model.query_tokens.normal_()  # zeros else, and every picture would look the same
    make_talkative(model.language_model)
    model.save_pretrained(folder)
    images = BlipImageProcessorPil(size={"height": 30, "width": 30})
    Blip2Processor(images, tokenizer, num_query_tokens=4).save_pretrained(folder)
    return folder


def tiny_llava(folder: Path, chat_template: str | None) -> Path:
    """A LLaVA of random weights: one of the image-text-to-text family."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(0)
    tokenizer = tokenizer_of()
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**small, image_size=28, patch_size=14).to_dict(),
        text_config=LlamaConfig(
            **small,
            vocab_size=len(tokenizer),
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=1,
            max_position_embeddings=256,
        ).to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    model = LlavaForConditionalGeneration(config)
    make_talkative(model)
    model.save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    LlavaProcessor(
        images, tokenizer, patch_size=14, vision_feature_select_strategy="default", chat_template=chat_template,
        image_token="<image>", num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    return folder
