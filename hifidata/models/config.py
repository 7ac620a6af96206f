"""Settings of models in a recipe; base classes of the recipe's sections."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from hifidata.core.base_config import BaseConfig

CAPTION_PROMPTS: Mapping[str, str] = {
    "paper": (
        "Dear Yi-Vision, please describe this portrait in detail, focusing on the person's appearance, hairstyle, "
        "clothing, accessories, and background. Please do not describe facial expressions and poses."
    ),
    "plain": (
        "Please describe this portrait in detail, focusing on the person's appearance, hairstyle, clothing, "
        "accessories, and background. Please do not describe facial expressions and poses."
    ),
}
"""Prompts by preset. ``paper``: the exact text of section 3.4. ``plain``: the same without the name of the model."""

SERVER_PRESETS: Mapping[str, Mapping[str, str]] = {
    "yi_vision": {"base_url": "https://api.lingyiwanwu.com/v1", "model": "yi-vision", "key_env": "YI_API_KEY"},
}
"""Servers by preset. The paper uses Yi-Vision. The run checks at its start whether the server is available."""


class ModelFolderConfig(BaseConfig):
    """Settings of a model with the user's own model files."""

    folder: str | None = Field(
        None,
        description="folder with your own model files instead of the catalogue's; their hashes are not checked. A model "
        "with several catalogue entries needs one sub-folder per entry, with the entry's name",
    )


class ModelFileConfig(BaseConfig):
    """Settings of a model with one model file of the user."""

    file: str | None = Field(
        None, description="your own weights file for the architecture of model, instead of the catalogue's file"
    )
    file_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="expected sha256 of file; null: computed when the recipe is loaded"
    )


Normalisation = Literal["minus_one_to_one", "zero_to_one", "zero_to_255", "imagenet"]


class EmbedderConfig(ModelFileConfig):
    """Settings of an embedder: the user's own file and the normalisation of its input."""

    normalisation: Normalisation | None = Field(
        None, description="scaling of the RGB pixels for your own file; null: the scaling of model"
    )


class OcclusionCheckerConfig(ModelFolderConfig):
    """Settings of the prompt for BLIP-2; other occlusion models ignore them."""

    mode: Literal["describe", "ask"] = Field(
        "describe",
        description="for blip2. describe (paper): describe the image, then search the description for terms. ask: ask a yes "
        "or no question",
    )
    prompt: str = Field("", description="start of the description in mode describe, such as: a photo of. Paper: none")
    question: str = Field(
        "is there a hand or an object in front of the face?", description="question in mode ask; not from the paper"
    )


class CaptionServerConfig(BaseConfig):
    """Settings of an OpenAI-compatible server, such as vLLM, SGLang, llama.cpp, Ollama or a hosted service."""

    base_url: str = Field(
        "", description="base URL of the server, such as http://127.0.0.1:8000/v1; /chat/completions is appended"
    )
    model: str = Field("", description="name of the model on the server")
    key_env: str | None = Field(
        None, description="environment variable that contains the API key; null: requests contain no key"
    )
    concurrency: int = Field(16, ge=1, description="most parallel requests of one worker")
    connect_timeout_s: float = Field(5.0, gt=0, description="timeout of a connection")
    read_timeout_s: float = Field(
        120.0, gt=0, description="timeout until the first byte, and between two pieces of a response"
    )
    total_timeout_s: float = Field(300.0, gt=0, description="deadline of one image, over all tries")
    tries: int = Field(
        4,
        ge=1,
        description="most tries of one image, including the first; 429, 5xx, lost connections and broken responses are "
        "retried",
    )
    backoff_s: float = Field(
        1.0,
        ge=0,
        description="backoff: the wait before a retry is random between 0 and this value, doubled for each retry",
    )
    max_retry_after_s: float = Field(60.0, ge=0, description="longest wait that a Retry-After header can cause")
    max_errors: int = Field(
        10,
        ge=1,
        description="consecutive images without a caption after which the run stops; 2 if they took total_timeout_s or longer",
    )
    temperature: float | None = Field(0.0, ge=0, le=2, description="sampling temperature; null: default of the server")
    seed: int | None = Field(0, description="seed of the request; null: none")
    extra: dict[str, Any] = Field(
        default_factory=dict,
        description="further keys of the request, such as {chat_template_kwargs: {enable_thinking: false}}",
    )

    @field_validator("base_url")
    @classmethod
    def _can_be_asked(cls, base_url: str) -> str:
        parts = urlsplit(base_url)
        extras = (parts.username, parts.password, parts.query, parts.fragment)
        if base_url and (parts.scheme not in ("http", "https") or not parts.hostname or any(extras)):
            raise ValueError("expected an http(s) URL with a host, without credentials, query or fragment")
        try:
            (parts.hostname or "").encode("idna")
        except UnicodeError:
            raise ValueError(f"{parts.hostname} is not a host name: a part between dots is empty or too long") from None
        return base_url.rstrip("/")

    @field_validator("extra")
    @classmethod
    def _can_be_sent(cls, extra: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(extra, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"cannot be sent as JSON: {error}") from None
        return extra


SERVER_MANNERS = frozenset(CaptionServerConfig.model_fields) - {"model", "temperature", "seed", "extra"}
"""Server settings that do not change the text of a caption: address, timeouts and retries."""


class CaptionerConfig(ModelFolderConfig):
    """Settings of a captioner: prompt, limits and handling of its answers."""

    model: str | None = Field(
        "attributes",
        description="attributes: a sentence made from the measured values. openai: a server with an OpenAI API. vlm: a local "
        "vision-language model. sidecar: the .txt or .caption file beside the image. null: no captions",
    )
    prompt: str = Field("paper", description="a preset (paper, plain), or the text of the prompt")
    image_px: int = Field(768, ge=64, le=4096, description="longest side of the image for the model")
    max_tokens: int = Field(300, ge=8, description="most tokens of a response")
    max_characters: int = Field(
        2000, ge=40, description="most characters of a caption; a longer text is cut after the last complete sentence"
    )
    language: Literal["en", "any"] = Field("en", description="en: captions in other languages are flagged, not dropped")
    batch_size: int = Field(4, ge=1, description="portraits per batch, for vlm")
    on_error: Literal["attributes", "fail"] = Field(
        "attributes",
        description="if the model, or the file, has no usable text: attributes writes a fallback caption from the measured values; "
        "fail marks the image as failed",
    )
    server: CaptionServerConfig = Field(
        default_factory=CaptionServerConfig, description="settings for openai, or the name of a preset: yi_vision"
    )

    @field_validator("server", mode="before")
    @classmethod
    def _server_by_name(cls, server: Any) -> Any:
        if isinstance(server, str):
            if server not in SERVER_PRESETS:
                raise ValueError(f"unknown preset; known: {', '.join(SERVER_PRESETS)}")
            return dict(SERVER_PRESETS[server])
        return server

    @model_validator(mode="after")
    def _server_is_named(self) -> CaptionerConfig:
        if self.model == "openai" and not (self.server.base_url and self.server.model):
            raise ValueError("model openai needs server.base_url and server.model, or server: yi_vision")
        return self

    @property
    def prompt_text(self) -> str:
        """Text of the prompt."""
        return CAPTION_PROMPTS.get(self.prompt, self.prompt)
