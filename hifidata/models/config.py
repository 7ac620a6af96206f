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
        description="model files of your own in place of the catalogue's, not held against its hashes; a model of "
        "several entries: one sub-folder for each, named as in the catalogue",
    )


class ModelFileConfig(BaseConfig):
    """Settings of a model with one model file of the user."""

    file: str | None = Field(
        None, description="a file of your own for the architecture that model names, in place of the catalogue's"
    )
    file_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="of that file; null: noted when the recipe is read"
    )


Normalisation = Literal["minus_one_to_one", "zero_to_one", "zero_to_255", "imagenet"]


class EmbedderConfig(ModelFileConfig):
    """Settings of an embedder: the user's own file and the normalisation of its input."""

    normalisation: Normalisation | None = Field(
        None, description="of RGB pixels, for a file of your own; null: that of model"
    )


class OcclusionCheckerConfig(ModelFolderConfig):
    """Settings of the prompt for BLIP-2; other occlusion models ignore them."""

    mode: Literal["describe", "ask"] = Field(
        "describe", description="paper: describe, and look for terms; ask: yes or no"
    )
    prompt: str = Field("", description="in front of the description, such as: a photo of; the paper names none")
    question: str = Field("is there a hand or an object in front of the face?", description="in mode ask; ours")


class CaptionServerConfig(BaseConfig):
    """Settings of an OpenAI-compatible server, such as vLLM, SGLang, llama.cpp, Ollama or a hosted service."""

    base_url: str = Field("", description="such as http://127.0.0.1:8000/v1; /chat/completions is added")
    model: str = Field("", description="as the server calls it")
    key_env: str | None = Field(None, description="environment variable that holds the key; null: none is sent")
    concurrency: int = Field(16, ge=1, description="requests at once from one worker; the server batches them")
    connect_timeout_s: float = Field(5.0, gt=0)
    read_timeout_s: float = Field(120.0, gt=0, description="until the first byte, and between two pieces")
    total_timeout_s: float = Field(300.0, gt=0, description="of one picture, over all tries")
    tries: int = Field(4, ge=1, description="for 429, 5xx, lost connections and broken answers, the first one included")
    backoff_s: float = Field(1.0, ge=0, description="waits between tries are random up to this, doubled every time")
    max_retry_after_s: float = Field(60.0, ge=0, description="the longest wait that a Retry-After gets")
    max_errors: int = Field(
        10,
        ge=1,
        description="pictures in a row that the server fails on before the run is stopped; two, where they cost "
        "total_timeout_s or more",
    )
    temperature: float | None = Field(0.0, ge=0, le=2)
    seed: int | None = 0
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

    model: str | None = "attributes"
    prompt: str = Field("paper", description="a preset (paper, plain) or the words themselves")
    image_px: int = Field(768, ge=64, le=4096, description="longest side of the picture that the model sees")
    max_tokens: int = Field(300, ge=8, description="of an answer")
    max_characters: int = Field(2000, ge=40, description="of a caption; longer ones end with the last whole sentence")
    language: Literal["en", "any"] = Field("en", description="others are flagged, not dropped")
    batch_size: int = Field(4, ge=1, description="portraits at once, for vlm")
    on_error: Literal["attributes", "fail"] = Field(
        "attributes",
        description="where the model gives no usable text. attributes: a plain sentence of what was measured stands "
        "in; fail: the picture is lost and counts against the failure budget",
    )
    server: CaptionServerConfig = Field(
        default_factory=CaptionServerConfig, description="for openai; or a preset: yi_vision"
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
