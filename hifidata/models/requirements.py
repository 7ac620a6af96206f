"""Optional packages of some models, with the remedy if a package is missing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extra:
    """Optional packages.

    Attributes:
        packages: import names.
        remedy: text for error messages.
    """

    packages: tuple[str, ...]
    remedy: str


TRANSFORMERS = Extra(
    ("torch", "transformers", "safetensors"),
    "install the missing packages with `.venv/bin/pip install -c constraints.txt -e '.[vlm]'` in this project's folder",
)
OPENAI = Extra(("openai",), "run `pip install 'hifi-portrait[caption]'`")
SPANDREL = Extra(
    ("torch", "torchvision", "spandrel"),
    "install all three for the same platform (docs/weights.md), or set restore.model: gfpgan, which needs none of them",
)
PADDLEOCR = Extra(
    ("paddleocr",),
    "give the watermark stage its own worker group with a runtime_env (as in pipelines/paper.yaml) and executor.kind: ray, or "
    "set watermark.model: rapidocr, which uses the same networks",
)
PADDLE = Extra(
    ("paddle",),
    "give the matting stage its own worker group with runtime_env: {pip: [paddlepaddle, setuptools]} and executor.kind: ray, or "
    "set matting.model: modnet",
)
