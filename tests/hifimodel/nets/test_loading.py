"""Modules: full size has the known parameter counts, tiny is the same from the same seed and needs no network."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from torch import nn  # noqa: E402

from hifidata.core.errors import WeightsError  # noqa: E402
from hifimodel.config import load_preset  # noqa: E402
from hifimodel.errors import CheckpointError  # noqa: E402
from hifimodel.nets.architectures import averaging_vae, random_unet, text_config, vision_config  # noqa: E402
from hifimodel.nets.hifinet import HiFiNet, encode_images  # noqa: E402
from hifimodel.nets.loading import build_modules, load_base, load_trained, save_trained  # noqa: E402
from hifimodel.nets.state import write_state  # noqa: E402
from hifimodel.nets.text_encoders import encode_prompts  # noqa: E402

if TYPE_CHECKING:
    from hifimodel.nets.loading import Modules

SDXL = load_preset("sdxl").model
TINY = load_preset("tiny").model


def millions(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def test_full_size_unet_and_hifinet_have_the_known_parameter_counts() -> None:
    with torch.device("meta"):
        unet = random_unet("sdxl")
        net = HiFiNet.from_unet(unet, SDXL, load_weights=False)
    assert millions(unet) == pytest.approx(2567.5, abs=0.1)
    assert millions(net) == pytest.approx(1251.0 - 1.087 + 0.012, abs=0.1)
    assert net.controlnet_cond_embedding.weight.numel() + net.controlnet_cond_embedding.bias.numel() == 11_840


def test_full_size_encoders_have_the_known_widths_and_sizes() -> None:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionModel

    with torch.device("meta"):
        vision = CLIPVisionModel(vision_config("sdxl"))
        first = CLIPTextModel(text_config("sdxl", second=False))
        second = CLIPTextModelWithProjection(text_config("sdxl", second=True))
    assert vision.config.hidden_size == 1024
    assert millions(vision) == pytest.approx(303.2, abs=0.1)
    assert first.config.hidden_size + second.config.hidden_size == SDXL.refiner.dim
    assert (round(millions(first)), round(millions(second))) == (123, 695)


def test_the_same_seed_builds_the_same_modules_and_leaves_the_callers_generator_alone(tiny: Modules) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    again = build_modules(TINY)
    assert torch.equal(torch.rand(1), expected)
    for name in ("refiner", "hifinet", "face_encoder"):
        pairs = zip(getattr(tiny, name).parameters(), getattr(again, name).parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
    assert all(
        torch.equal(a, b) for a, b in zip(tiny.base.unet.parameters(), again.base.unet.parameters(), strict=True)
    )


def test_only_refiner_and_hifinet_are_trainable(tiny: Modules) -> None:
    assert all(p.requires_grad for p in tiny.trainable())
    frozen = (tiny.base.unet, tiny.base.vae, tiny.base.text_encoder, tiny.base.text_encoder_2, tiny.face_encoder)
    assert not any(p.requires_grad for module in frozen for p in module.parameters())
    assert not any(module.training for module in frozen)


def test_a_saved_model_loads_with_its_choices(tiny: Modules, tmp_path: Path) -> None:
    save_trained(tiny, tmp_path)
    loaded = load_trained(tmp_path)
    assert loaded.hifinet.choices == TINY
    pairs = zip(tiny.trainable(), loaded.trainable(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert torch.equal(tiny.base.unet.conv_in.weight, loaded.base.unet.conv_in.weight)


@pytest.mark.parametrize("base", [None, "/nowhere/sdxl"])
def test_a_missing_base_is_one_line_with_a_remedy(base: str | None) -> None:
    with pytest.raises(WeightsError, match=r"--base|check the name or folder") as caught:
        load_base(SDXL, base)
    assert "\n" not in str(caught.value)


def test_a_missing_checkpoint_is_one_line_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="check the name or folder"):
        load_trained(tmp_path)


def test_the_tiny_vae_averages_blocks_and_decodes_flat_colours_exactly() -> None:
    vae = averaging_vae()
    picture = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    latents = encode_images(vae, picture) / vae.config["scaling_factor"]
    means = torch.nn.functional.avg_pool2d(picture / 127.5 - 1, 4)
    torch.testing.assert_close(latents, torch.cat([means, means.mean(1, keepdim=True)], dim=1), atol=2e-3, rtol=0)
    flat = torch.tensor([0.5, -0.5, 0.1, 0.1 / 3]).view(1, 4, 1, 1).expand(1, 4, 16, 16)
    inside = vae.decode(flat).sample[0, :, 16:-16, 16:-16]
    torch.testing.assert_close(inside, flat[0, :3, :1, :1].expand_as(inside), atol=2e-3, rtol=0)


def test_dropped_text_is_zeros_and_only_there(tiny: Modules) -> None:
    features = encode_prompts(tiny.base, ["a portrait", ""], "zeros")
    assert features.tokens.shape == (2, 77, TINY.refiner.dim)
    assert features.pooled.shape == (2, 32)
    assert features.tokens[0].any()
    assert not features.tokens[1].any()
    assert not features.pooled[1].any()
    assert encode_prompts(tiny.base, [""], "encode").tokens.any()


def test_prompts_are_encoded_as_the_diffusers_pipeline_does(tiny: Modules) -> None:
    from diffusers import StableDiffusionXLPipeline

    base = tiny.base
    parts = {"vae": base.vae, "unet": base.unet, "scheduler": base.scheduler, "add_watermarker": False}
    texts = {name: getattr(base, name) for name in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")}
    pipe = StableDiffusionXLPipeline(**parts, **texts)
    tokens, _, pooled, _ = pipe.encode_prompt("a portrait, smiling", do_classifier_free_guidance=False)
    ours = encode_prompts(base, ["a portrait, smiling"], "zeros")
    torch.testing.assert_close(ours.tokens, tokens)
    torch.testing.assert_close(ours.pooled, pooled)


@pytest.fixture
def saved(tiny: Modules, tmp_path: Path) -> Path:
    """A checkpoint of an earlier version, without digests."""
    pytest.importorskip("accelerate")
    from hifimodel.training import checkpoint

    save_trained(tiny, tmp_path)
    facts = {"step": 1, "n_processes": 1, "base": checkpoint.base_digest(tiny.base)}
    for name in ("optimizer.pt", "process-0.pt"):
        torch.save({}, tmp_path / name)
    (tmp_path / "state.json").write_text(json.dumps(facts))
    return tmp_path


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:100]), Path.unlink])
def test_a_checkpoint_with_a_damaged_net_says_that_the_one_before_can_be_used(
    tiny: Modules, saved: Path, damage: Callable[[Path], object]
) -> None:
    from hifimodel.training import checkpoint

    assert checkpoint.load(saved, tiny, 0, 1).facts.step == 1
    damage(saved / "hifinet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(CheckpointError, match="remove it to resume from the previous checkpoint") as caught:
        checkpoint.load(saved, tiny, 0, 1)
    assert "check the name" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_any_file_of_a_checkpoint_is_an_error(tiny: Modules, saved: Path) -> None:
    from hifimodel.training import checkpoint

    facts = json.loads((saved / "state.json").read_text())
    (saved / "state.json").unlink()
    write_state(saved, facts)
    rng = random.Random(0)
    checkpoint.load(saved, tiny, 0, 1)
    for path in [path for path in saved.rglob("*") if path.is_file()]:
        data = bytearray(path.read_bytes())
        place = rng.randrange(len(data))
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"cannot be read \(.*remove it to resume from the previous"):
            checkpoint.load(saved, tiny, 0, 1)
        if path.parent.name in ("refiner", "hifinet"):
            with pytest.raises(WeightsError, match=r"is damaged \(.* differs from its sha256\); copy it again"):
                load_trained(saved)
        data[place] ^= 1
        path.write_bytes(data)
