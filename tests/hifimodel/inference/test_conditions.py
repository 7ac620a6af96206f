"""What a checkpoint's config says about guidance and text holds at inference, and what does not fit is refused."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from hifimodel.config import load_preset  # noqa: E402
from hifimodel.errors import CheckpointError, ConditionError  # noqa: E402
from hifimodel.inference.conditions import PortraitCondition  # noqa: E402
from hifimodel.inference.pipeline import HiFiPortraitPipeline  # noqa: E402
from hifimodel.nets.face_refiner import FaceRefiner  # noqa: E402
from hifimodel.nets.hifinet import HiFiNet, black_latents  # noqa: E402
from hifimodel.nets.loading import build_modules  # noqa: E402
from hifimodel.nets.text_encoders import encode_prompts  # noqa: E402
from tests.factories.portraits import SIZE_PX, person, pictures, quiet, seeded, speaking  # noqa: E402

if TYPE_CHECKING:
    from hifimodel.nets.loading import Modules

N_TOKENS = 9
"""Per reference in the tiny preset: one global and eight learnable."""


def trained_with(**choices: Any) -> HiFiPortraitPipeline:
    """A tiny pipeline with other choices than the preset's; random weights."""
    model = load_preset("tiny", [f"model.{key}={value}" for key, value in choices.items()]).model
    return quiet(HiFiPortraitPipeline.from_modules(speaking(build_modules(model))))


def calls_of(pipeline: HiFiPortraitPipeline, part: str, *args: Any, **options: Any) -> list[dict[str, Any]]:
    """What a net was called with during one call of the pipeline."""
    seen: list[dict[str, Any]] = []

    def note(net: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append({"latents": given[0], **named})

    handle = getattr(pipeline, part).register_forward_pre_hook(note, with_kwargs=True)
    try:
        pictures(pipeline, *args, num_inference_steps=1, **options)
    finally:
        handle.remove()
    return seen


@pytest.mark.parametrize("policy", ["same", "zeros", "learned"])
def test_the_unconditional_half_sees_the_faces_that_training_dropped_to(policy: str) -> None:
    drop = 0.0 if policy == "same" else 0.1
    pipeline = trained_with(face_in_uncond=policy, face_drop_rate=drop)
    (call,) = calls_of(pipeline, "hifinet", "a portrait", person(0, n_references=3), guidance_scale=3.0)
    without, with_faces = call["encoder_hidden_states"]
    assert with_faces.shape == (3 * N_TOKENS, 64)
    if policy == "same":
        assert torch.equal(without, with_faces)
    else:
        with torch.no_grad():
            expected = pipeline.refiner.unconditional(policy, 17)[0]
        torch.testing.assert_close(without, expected.repeat(3, 1))
        assert not torch.equal(without, with_faces)
    assert torch.equal(*call["controlnet_cond"])  # the landmarks stay in both halves


def test_pooled_zeros_hide_the_prompt_and_one_pass_serves_both_halves() -> None:
    pipeline = trained_with(pooled_text="zeros")
    (call,) = calls_of(pipeline, "hifinet", "a portrait", person(0), guidance_scale=3.0)
    assert len(call["latents"]) == 1
    assert not call["added_cond_kwargs"]["text_embeds"].any()
    once = pictures(pipeline, "a portrait", person(0), guidance_scale=3.0, generator=seeded(0))
    two_halves = pytest.MonkeyPatch()
    with two_halves.context() as patch:
        patch.setattr("hifimodel.inference.branches.Branch.ignores_text", False)
        twice = pictures(pipeline, "a portrait", person(0), guidance_scale=3.0, generator=seeded(0))
    torch.testing.assert_close(once, twice, atol=1e-5, rtol=0)


def test_pooled_prompt_reaches_hifinet_in_both_halves() -> None:
    pipeline = trained_with(pooled_text="prompt")
    (call,) = calls_of(pipeline, "hifinet", "a portrait", person(0), guidance_scale=3.0)
    empty, pooled = call["added_cond_kwargs"]["text_embeds"]
    assert pooled.any()
    assert not empty.any()


@pytest.mark.parametrize("empty_text", ["zeros", "encode"])
def test_text_is_encoded_as_in_training_whether_empty_or_not(empty_text: str) -> None:
    pipeline = trained_with(empty_text=empty_text)
    (call,) = calls_of(pipeline, "unet", ["a portrait", ""], None, guidance_scale=3.0)
    expected = encode_prompts(pipeline, ["", "", "a portrait", ""], empty_text)  # type: ignore[arg-type]
    torch.testing.assert_close(call["encoder_hidden_states"], expected.tokens)
    torch.testing.assert_close(call["added_cond_kwargs"]["text_embeds"], expected.pooled)
    size = [SIZE_PX, SIZE_PX, 0, 0, SIZE_PX, SIZE_PX]
    assert call["added_cond_kwargs"]["time_ids"].tolist() == [size] * 4


def test_no_landmarks_is_the_latent_of_black() -> None:
    pipeline = trained_with()
    (call,) = calls_of(pipeline, "hifinet", "a portrait", person(0, landmarks=False))
    torch.testing.assert_close(call["controlnet_cond"], black_latents(pipeline.vae, SIZE_PX, SIZE_PX))
    assert call["controlnet_cond"].any()


def test_no_references_gives_the_tokens_of_no_face(caplog: pytest.LogCaptureFixture) -> None:
    nobody = PortraitCondition(None, None, person(0).landmarks_u8)
    pipeline = trained_with(face_in_uncond="learned", face_drop_rate=0.1)
    (call,) = calls_of(pipeline, "hifinet", "a portrait", nobody)
    assert torch.equal(call["encoder_hidden_states"], pipeline.refiner.null_tokens)
    assert not caplog.records
    pipeline = trained_with()
    with caplog.at_level(logging.WARNING):
        (call,) = calls_of(pipeline, "hifinet", "a portrait", nobody)
    with torch.no_grad():
        torch.testing.assert_close(call["encoder_hidden_states"], pipeline.refiner.unconditional("zeros", 17))
    assert "always trained with faces" in caplog.text
    caplog.clear()
    pipeline = trained_with(face_drop_rate=0.1)
    (call,) = calls_of(pipeline, "hifinet", "a portrait", nobody)
    with torch.no_grad():
        torch.testing.assert_close(call["encoder_hidden_states"], pipeline.refiner.unconditional("zeros", 17))
    assert not caplog.records  # zeros are what its training dropped faces to


def test_face_and_landmark_nets_run_once_however_many_steps() -> None:
    pipeline = trained_with()
    runs = {"refiner": 0, "face_vision": 0, "vae.encoder": 0, "hifinet": 0}

    def counting(name: str) -> Any:
        def count(net: Any, given: Any) -> None:
            runs[name] += 1

        return count

    for name in runs:
        part: Any = pipeline.vae.encoder if name == "vae.encoder" else getattr(pipeline, name)
        part.register_forward_pre_hook(counting(name))
    pictures(pipeline, "a portrait", person(0), num_inference_steps=4, guidance_scale=3.0)
    assert runs == {"refiner": 1, "face_vision": 1, "vae.encoder": 1, "hifinet": 4}


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ((None, None, None), "neither references nor landmarks"),
        ((person(0).clip_crops_u8, None, None), "belong together"),
        ((person(0).clip_crops_u8, person(0, 3).embeddings, None), "2 face crops and 3 embeddings"),
        ((torch.zeros(7, 3, 32, 32, dtype=torch.uint8), torch.zeros(7, 64), None), "got 7, expected 1 to 6"),
    ],
)
def test_conditions_that_do_not_fit_are_one_line(parts: tuple[Any, ...], complaint: str) -> None:
    with pytest.raises(ConditionError, match=complaint) as caught:
        PortraitCondition(*parts)
    assert "\n" not in str(caught.value)


def test_embeddings_of_another_width_are_refused(tiny: Modules) -> None:
    pipeline = quiet(HiFiPortraitPipeline.from_modules(tiny))
    with pytest.raises(ConditionError, match=r"expected .* and \(R, 64\)"):
        pictures(pipeline, "a portrait", person(0, embedding_dim=128))


def test_a_checkpoint_of_another_landmark_style_is_refused(tiny: Modules) -> None:
    other = HiFiNet.from_unet(tiny.base.unet, load_preset("tiny", ["model.landmark_style=mesh-1"]).model)
    with pytest.raises(CheckpointError, match="landmark_style mesh-1, this release draws lines68-1"):
        HiFiPortraitPipeline.from_modules(replace(tiny, hifinet=other))


def test_a_refiner_of_another_checkpoint_is_refused(tiny: Modules) -> None:
    model = load_preset("tiny", ["model.refiner.n_layers=1"]).model
    other = FaceRefiner.from_model_config(model, tiny.face_encoder.dim)
    with pytest.raises(CheckpointError, match="not trained together") as caught:
        HiFiPortraitPipeline.from_modules(replace(tiny, refiner=other))
    assert "\n" not in str(caught.value)


def test_a_base_of_another_shape_is_refused(tiny: Modules) -> None:
    from diffusers import UNet2DConditionModel

    from hifimodel.nets.architectures import TINY_UNET

    wider = UNet2DConditionModel(**TINY_UNET | {"block_out_channels": (32, 96), "attention_head_dim": (2, 6)})
    with pytest.raises(ConditionError, match=r"block_out_channels \[32, 96\]"):
        HiFiPortraitPipeline.from_modules(replace(tiny, base=replace(tiny.base, unet=wider)))
