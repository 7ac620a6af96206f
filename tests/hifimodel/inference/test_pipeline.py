"""The pipeline is diffusers' SDXL pipeline with a person in it, and keeps the contracts that its users know."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline  # noqa: E402
from diffusers.callbacks import SDXLCFGCutoffCallback  # noqa: E402

from hifimodel.errors import ConditionError  # noqa: E402
from hifimodel.inference.conditions import PortraitCondition  # noqa: E402
from hifimodel.inference.pipeline import HiFiPortraitPipeline, trailing_ddim  # noqa: E402
from hifimodel.nets.loading import save_trained  # noqa: E402
from tests.factories.portraits import SIZE_PX, person, pictures, quiet, seeded  # noqa: E402

if TYPE_CHECKING:
    from hifimodel.nets.loading import Modules


@pytest.mark.parametrize("guidance", [0.0, 4.0])
def test_without_a_person_it_is_diffusers_own_pipeline_to_the_bit(
    pipeline: HiFiPortraitPipeline, guidance: float
) -> None:
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
    plain = StableDiffusionXLPipeline(**{name: getattr(pipeline, name) for name in names})
    plain.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"guidance_scale": guidance, "generator": torch.Generator().manual_seed(3)}
    ours = pictures(pipeline, "a portrait", **options)
    options["generator"].manual_seed(3)
    theirs = pictures(plain, "a portrait", **options)
    assert torch.equal(ours, theirs)
    assert torch.equal(ours, pictures(pipeline, "a portrait", person(0), **options | again(3, scale=0.0)))
    assert not torch.equal(ours, pictures(pipeline, "a portrait", person(0), **options | again(3)))


def again(seed: int, scale: float = 1.0) -> dict[str, Any]:
    return {"generator": torch.Generator().manual_seed(seed), "controlnet_conditioning_scale": scale}


def test_person_landmarks_and_prompt_each_change_the_picture(pipeline: HiFiPortraitPipeline) -> None:
    def made(prompt: str, condition: PortraitCondition) -> torch.Tensor:
        return pictures(pipeline, prompt, condition, generator=seeded(0))

    someone = person(0)
    first = made("a portrait", someone)
    assert torch.equal(first, made("a portrait", someone))
    assert not torch.equal(first, made("a man", someone))
    assert not torch.equal(first, made("a portrait", replace(someone, landmarks_u8=person(1).landmarks_u8)))
    assert not torch.equal(first, made("a portrait", replace(someone, embeddings=person(1).embeddings)))
    assert not torch.equal(first, made("a portrait", replace(someone, clip_crops_u8=person(1).clip_crops_u8)))


def test_a_saved_pipeline_loads_and_makes_the_same_pictures(pipeline: HiFiPortraitPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "first")
    loaded = quiet(HiFiPortraitPipeline.from_pretrained(tmp_path / "first"))
    loaded.save_pretrained(tmp_path / "second")
    twice = quiet(HiFiPortraitPipeline.from_trained(tmp_path / "second"))
    made = [pictures(each, "a portrait", person(0), generator=seeded(1)) for each in (pipeline, loaded, twice)]
    # A loaded weight lies elsewhere in memory, which may round a product differently; two loaded ones lie alike.
    torch.testing.assert_close(made[0], made[1], atol=1e-5, rtol=0)
    assert torch.equal(made[1], made[2])
    assert loaded.scheduler.config.timestep_spacing == "trailing"
    assert loaded.hifinet.choices == pipeline.hifinet.choices


@pytest.mark.parametrize("place", [".", "model", "checkpoints/step-000040"])
def test_what_training_writes_loads_from_the_run_or_the_model_folder(
    modules: Modules, pipeline: HiFiPortraitPipeline, tmp_path: Path, place: str
) -> None:
    save_trained(modules, tmp_path / place)
    loaded = quiet(HiFiPortraitPipeline.from_trained(tmp_path))
    made = [pictures(each, "a portrait", person(0), generator=seeded(1)) for each in (pipeline, loaded)]
    torch.testing.assert_close(made[0], made[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("guidance", [0.0, 4.0])
def test_a_batch_of_two_people_equals_two_single_calls(pipeline: HiFiPortraitPipeline, guidance: float) -> None:
    prompts, people = ["a portrait", "a man in a garden"], [person(0, 2), person(1, 3)]
    options: dict[str, Any] = {"guidance_scale": guidance, "negative_prompt": "blurred"}
    both = pictures(pipeline, prompts, people, generator=seeded(4, 5), **options)
    single = [
        pictures(pipeline, prompt, someone, generator=seeded(seed), **options)
        for prompt, someone, seed in zip(prompts, people, (4, 5), strict=True)
    ]
    torch.testing.assert_close(both, torch.cat(single), atol=1e-4, rtol=0)


def test_several_pictures_per_prompt_follow_each_other_and_equal_single_ones(pipeline: HiFiPortraitPipeline) -> None:
    prompts, people = ["a portrait", ""], [person(0), person(1)]
    four = pictures(
        pipeline, prompts, people, num_images_per_prompt=2, generator=seeded(1, 2, 3, 4), guidance_scale=3.0
    )
    assert four.shape == (4, 3, SIZE_PX, SIZE_PX)
    third = pictures(pipeline, "", people[1], generator=seeded(3), guidance_scale=3.0)
    torch.testing.assert_close(four[2:3], third, atol=1e-4, rtol=0)


def test_the_callback_sees_every_step_and_what_it_returns_counts(pipeline: HiFiPortraitPipeline) -> None:
    seen = []

    def zero_at_the_end(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append((step, int(timestep), sorted(tensors)))
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else {}

    asked = ["latents", "prompt_embeds", "add_text_embeds", "add_time_ids"]
    latents = pictures(
        pipeline,
        "a portrait",
        person(0),
        num_inference_steps=3,
        output_type="latent",
        callback_on_step_end=zero_at_the_end,
        callback_on_step_end_tensor_inputs=asked,
    )
    assert [step for step, _, _ in seen] == [0, 1, 2]
    assert [timestep for _, timestep, _ in seen] == pipeline.scheduler.timesteps.tolist()
    assert seen[0][2] == sorted(asked)
    assert not latents.any()


def test_a_callback_can_interrupt_and_diffusers_own_callbacks_work(pipeline: HiFiPortraitPipeline) -> None:
    steps = []

    def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        steps.append(step)
        pipe._interrupt = True
        return tensors

    pictures(pipeline, "a portrait", person(0), num_inference_steps=3, callback_on_step_end=stop)
    assert steps == [0]
    batches = []
    handle = pipeline.hifinet.register_forward_pre_hook(lambda net, args: batches.append(len(args[0])))
    cutoff = SDXLCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=1)
    pictures(pipeline, "a man", person(0), num_inference_steps=4, guidance_scale=4.0, callback_on_step_end=cutoff)
    handle.remove()
    assert batches == [2, 2, 1, 1]


def test_offload_moves_every_part_in_order_and_leaves_the_picture_alone(modules: Modules) -> None:
    plain, offloaded = (quiet(HiFiPortraitPipeline.from_modules(modules)) for _ in range(2))
    expected = pictures(plain, "a portrait", person(0), generator=seeded(0))
    offloaded.enable_model_cpu_offload(device="cpu")  # no GPU here: the order and the hooks are real, the moves are not
    hooked = [name for name, part in offloaded.components.items() if hasattr(part, "_hf_hook")]
    assert set(offloaded.model_cpu_offload_seq.split("->")) - {"image_encoder"} <= set(hooked)
    assert "hifinet" in hooked
    assert "hifinet" not in offloaded.model_cpu_offload_seq
    assert torch.equal(expected, pictures(offloaded, "a portrait", person(0), generator=seeded(0)))
    offloaded.remove_all_hooks()


def test_eight_trailing_steps_are_lightnings_and_the_last_lands_on_the_picture(pipeline: HiFiPortraitPipeline) -> None:
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(8)
    assert scheduler.timesteps.tolist() == [999, 874, 749, 624, 499, 374, 249, 124]
    clean = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 3  # beyond 1: clipping would show
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    noisy = scheduler.add_noise(clean, noise, torch.tensor([124]))
    torch.testing.assert_close(scheduler.step(noise, 124, noisy).prev_sample, clean, atol=1e-5, rtol=1e-5)


def test_the_default_is_eight_steps_without_guidance_at_the_size_of_training(pipeline: HiFiPortraitPipeline) -> None:
    batches = []
    handle = pipeline.unet.register_forward_pre_hook(lambda net, args: batches.append(len(args[0])))
    image = pipeline("a portrait", person(0, landmarks=False)).images[0]
    handle.remove()
    assert batches == [1] * 8
    assert image.size == (128, 128)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own, with NumPy 2
def test_other_schedulers_work(pipeline: HiFiPortraitPipeline) -> None:
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config, timestep_spacing="leading")
    made = pictures(pipeline, "a portrait", person(0), generator=seeded(0), guidance_scale=3.0)
    assert torch.isfinite(made).all()
    assert trailing_ddim(pipeline.scheduler).config.timestep_spacing == "trailing"


def test_a_lora_for_the_base_changes_the_picture_and_unloads(modules: Modules, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="LoRA needs the package peft")
    pipeline = quiet(HiFiPortraitPipeline.from_modules(copy.deepcopy(modules)))
    tuned = copy.deepcopy(pipeline.unet)
    tuned.add_adapter(peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["to_k", "to_v"]))
    StableDiffusionXLPipeline.save_lora_weights(tmp_path, unet_lora_layers=peft.get_peft_model_state_dict(tuned))
    before = pictures(pipeline, "a portrait", person(0), generator=seeded(0))
    pipeline.load_lora_weights(tmp_path / "pytorch_lora_weights.safetensors")
    assert not torch.allclose(before, pictures(pipeline, "a portrait", person(0), generator=seeded(0)), atol=1e-2)
    pipeline.unload_lora_weights()
    after = pictures(pipeline, "a portrait", person(0), generator=seeded(0))
    torch.testing.assert_close(before, after, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_and_the_vae_overflows_in_none(modules: Modules, dtype: torch.dtype) -> None:
    parts = copy.deepcopy(modules)
    pipeline = quiet(HiFiPortraitPipeline.from_modules(parts)).to(dtype)
    seen = []
    for part in (pipeline.vae.encoder, pipeline.vae.decoder):
        part.register_forward_pre_hook(lambda net, args: seen.append(args[0].dtype))
    made = pictures(pipeline, "a portrait", person(0), generator=seeded(0))
    assert torch.isfinite(made).all()
    assert set(seen) == {torch.float32 if dtype == torch.float16 else dtype}
    assert pipeline.vae.dtype == dtype


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"prompt": []}, "empty list"),
        ({"height": 60}, "multiples of 8"),
        ({"faces": [person(0)] * 3}, "3 conditions for 1 prompts"),
        ({"negative_prompt": ["a", "b"]}, "2 for 1 prompts"),
        ({"height": 128}, "draw it in the size of the portrait"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "noise unknown; known: latents"),
    ],
)
def test_wrong_calls_are_one_line(pipeline: HiFiPortraitPipeline, options: dict[str, Any], complaint: str) -> None:
    call = {"prompt": "a portrait", "faces": person(0), "height": SIZE_PX, "width": SIZE_PX} | options
    with pytest.raises(ConditionError, match=complaint) as caught:
        pipeline(**call, num_inference_steps=1)
    assert "\n" not in str(caught.value)
