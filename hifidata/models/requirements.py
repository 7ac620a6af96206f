"""Packages that some models take and a plain install lacks, and what to do where they are missing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extra:
    """Packages by the names they are imported under, and what brings them, in words."""

    packages: tuple[str, ...]
    remedy: str


TRANSFORMERS = Extra(
    ("torch", "transformers", "safetensors"),
    "`.venv/bin/pip install -c constraints.txt -e '.[vlm]'` in this project's folder brings what is missing",
)
OPENAI = Extra(("openai",), "run `pip install 'hifi-portrait[caption]'`")
SPANDREL = Extra(
    ("torch", "torchvision", "spandrel"),
    "install all three for the same platform (docs/weights.md), or take restore.model: gfpgan, which needs none of them",
)
PADDLEOCR = Extra(
    ("paddleocr",),
    "give the watermark stage a worker group with its runtime_env (as pipelines/paper.yaml does) and executor.kind: ray, or take "
    "watermark.model: rapidocr, which reads with the same networks",
)
PADDLE = Extra(
    ("paddle",),
    "give the matting stage a worker group with runtime_env: {pip: [paddlepaddle, setuptools]} and executor.kind: ray, or take "
    "matting.model: modnet",
)
