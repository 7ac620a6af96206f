"""Captions from a model in this process. A tiny random LLaVA tests the code around a real model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hifidata.core.errors import WeightsError
from hifidata.core.schema import CaptionProblem
from hifidata.models.config import CaptionerConfig
from hifidata.models.protocols import RgbU8
from tests.factories.models import tiny_llava

torch = pytest.importorskip("torch", reason="local captions need the vlm extra")
pytest.importorskip("transformers", reason="local captions need the vlm extra")

TEMPLATE = (
    "{% for message in messages %}{{ message.role }} : {% for part in message.content %}"
    "{{ '<image>' if part.type == 'image' else part.text }} {% endfor %}{% endfor %}assistant :"
)
SETTINGS = CaptionerConfig(model="vlm", prompt="describe this portrait please", max_tokens=12, image_px=64)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava(tmp_path_factory.mktemp("llava") / "tiny", TEMPLATE)


def portraits(n: int) -> list[RgbU8]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (96, 96, 3), np.uint8) for _ in range(n)]


def test_a_tiny_random_llava_proves_batching_and_that_prompt_and_chat_marks_stay_out_of_the_caption(
    checkpoint: Path,
) -> None:
    from hifidata.models.caption.vlm import VlmCaptioner

    captioner = VlmCaptioner(checkpoint, SETTINGS)
    assert (captioner.name, captioner.batch_size) == ("vlm/tiny", 4)
    seen: list[str] = []
    write = captioner._vlm.write

    def watched(inputs: object, max_tokens: int) -> object:
        written = write(inputs, max_tokens)
        seen.extend(answer.text for answer in written)
        return written

    captioner._vlm.write = watched  # type: ignore[method-assign, assignment]
    shown = portraits(3)
    together = captioner.describe(shown)
    assert together == [captioner.describe([portrait])[0] for portrait in shown]
    assert seen[:3] == seen[3:]
    assert all(text and not text.startswith("user") for text in seen)
    assert all(len(text.split()) <= 12 for text in seen)
    # Its words have no end: an answer that ran into the limit is not passed off as a whole one.
    assert {description.problem for description in together} == {CaptionProblem.TRUNCATED}


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    from hifidata.models.caption.vlm import VlmCaptioner

    with pytest.raises(WeightsError, match="has no chat template"):
        VlmCaptioner(tiny_llava(tmp_path / "plain", None), SETTINGS)
