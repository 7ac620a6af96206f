"""Pictures are checked unless that is switched off, and nobody is left to believe that an unchecked one was checked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker  # noqa: E402
from transformers import CLIPConfig  # noqa: E402

from hifidata.core.errors import WeightsError  # noqa: E402
from hifimodel.inference.pipeline import HiFiPortraitPipeline  # noqa: E402
from hifimodel.inference.safety import find_safety_check  # noqa: E402
from tests.factories.portraits import SIZE_PX, person, quiet, seeded  # noqa: E402

if TYPE_CHECKING:
    from hifimodel.nets.loading import Modules

CALL = {"height": SIZE_PX, "width": SIZE_PX, "num_inference_steps": 1}


@pytest.fixture
def pipeline(tiny: Modules) -> HiFiPortraitPipeline:
    return quiet(HiFiPortraitPipeline.from_modules(tiny))


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_flagged_pictures_come_back_black_and_are_named(pipeline: HiFiPortraitPipeline, output_type: str) -> None:
    def flags_the_second(shown: Sequence[Image.Image]) -> list[bool]:
        assert [picture.size for picture in shown] == [(SIZE_PX, SIZE_PX)] * 2
        return [False, True]

    pipeline.safety_check = flags_the_second
    prompts = ["a portrait", "a man"]
    output = pipeline(prompts, person(0), generator=seeded(0, 1), output_type=output_type, **CALL)
    assert output.nsfw_content_detected == [False, True]
    first, second = (np.asarray(picture) for picture in output.images)
    assert first.any()
    assert not second.any()
    images, flags = pipeline(prompts, person(0), return_dict=False, **CALL)
    assert (len(images), flags) == (2, [False, True])


def test_without_a_checker_one_line_says_so_until_checking_is_switched_off(
    pipeline: HiFiPortraitPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert pipeline("a portrait", person(0), **CALL).nsfw_content_detected is None
        assert not caplog.records
        pipeline.requires_safety_check = True
        assert pipeline("a portrait", person(0), **CALL).nsfw_content_detected is None
    assert [record.getMessage() for record in caplog.records] == [
        "images were not checked for nudity: no checker is available; see hifimodel/inference/safety.py"
    ]


@pytest.mark.parametrize(("threshold", "flag"), [(-2.0, True), (2.0, False)])
def test_a_checker_with_made_up_weights_loads_and_decides_by_its_thresholds(
    tmp_path: Path, threshold: float, flag: bool
) -> None:
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**small, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config={**small, "vocab_size": 16}, vision_config=vision, projection_dim=16)
    net = StableDiffusionSafetyChecker(config)
    with torch.no_grad():
        net.concept_embeds_weights.fill_(threshold)
        net.special_care_embeds_weights.fill_(2.0)
    net.save_pretrained(tmp_path)
    check = find_safety_check(tmp_path)
    assert check is not None
    assert check([Image.new("RGB", (64, 48), "red"), Image.new("L", (20, 20))]) == [flag, flag]


def test_a_folder_without_a_checker_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"--safety-checker .* expected a copy of CompVis") as caught:
        find_safety_check(tmp_path)
    assert "\n" not in str(caught.value)


def test_looking_for_a_checker_fetches_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    def refuse(*args: object) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert find_safety_check(None) is None
