"""HiFi-Net: adds nothing at first, is exact for any number of references, and refuses pictures in the wrong range."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers import ControlNetModel  # noqa: E402
from diffusers.utils.logging import disable_propagation, enable_propagation  # noqa: E402

from hifimodel.config import load_preset  # noqa: E402
from hifimodel.errors import ConditionError  # noqa: E402
from hifimodel.nets.face_refiner import pack_references  # noqa: E402
from hifimodel.nets.hifinet import HiFiNet, black_latents, encode_images, landmark_latents  # noqa: E402

if TYPE_CHECKING:
    from hifimodel.nets.loading import Modules


@pytest.fixture(scope="module")
def trained(tiny: Modules) -> HiFiNet:
    """HiFi-Net with every zero convolution moved away from zero, as training would."""
    net = copy.deepcopy(tiny.hifinet).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return net


@pytest.fixture(scope="module")
def faces(tiny: Modules) -> torch.Tensor:
    """(6, 9, 64) tokens of six references."""
    generator = torch.Generator().manual_seed(2)
    clip = torch.randn(6, 17, tiny.face_encoder.dim, generator=generator)
    embeddings = torch.nn.functional.normalize(torch.randn(6, 64, generator=generator), dim=-1)
    with torch.no_grad():
        return tiny.refiner(clip, embeddings)


@torch.no_grad()
def residuals(net: HiFiNet, tokens: torch.Tensor) -> torch.Tensor:
    """All residuals of a batch in one row per sample; every sample has the same noise and landmarks."""
    generator = torch.Generator().manual_seed(3)
    noisy, condition = torch.randn(2, 1, 4, 16, 16, generator=generator).expand(2, len(tokens), 4, 16, 16)
    added = {"text_embeds": torch.zeros(len(tokens), 32), "time_ids": torch.full((len(tokens), 6), 64.0)}
    down, middle = net(
        noisy, torch.full((len(tokens),), 500), tokens, condition, added_cond_kwargs=added, return_dict=False
    )
    return torch.cat([part.flatten(1) for part in (*down, middle)], dim=1)


def test_a_new_net_adds_nothing_and_the_first_step_moves_it(tiny: Modules, faces: torch.Tensor) -> None:
    assert not residuals(tiny.hifinet, faces.reshape(1, -1, 64)).any()
    assert not any(p.any() for p in tiny.hifinet.controlnet_cond_embedding.parameters())


def test_condition_and_faces_both_change_a_trained_net(trained: HiFiNet, faces: torch.Tensor) -> None:
    one, other = (residuals(trained, faces[k : k + 1]) for k in (0, 1))
    assert (one - other).abs().mean() > 1e-3
    quiet = copy.deepcopy(trained)
    torch.nn.init.zeros_(quiet.controlnet_cond_embedding.weight)
    assert (residuals(quiet, faces[:1]) - one).abs().mean() > 1e-3


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_a_sample_alone_equals_the_same_sample_in_a_mixed_batch(
    trained: HiFiNet, faces: torch.Tensor, count: int
) -> None:
    alone = residuals(trained, pack_references(faces[:count], [count]))
    mixed = residuals(trained, pack_references(torch.cat([faces[:count], faces[:4], faces[2:5]]), [count, 4, 3]))
    assert (mixed[0] - alone[0]).abs().max() < 1e-5 * max(1.0, float(alone.abs().max()))


def test_zero_padding_would_not_be_exact(trained: HiFiNet, faces: torch.Tensor) -> None:
    alone = residuals(trained, pack_references(faces[:1], [1]))
    padded = torch.cat([faces[:1], torch.zeros(3, *faces.shape[1:])]).reshape(1, -1, 64)
    assert (residuals(trained, padded) - alone).abs().max() > 1e-2


def test_the_order_of_references_does_not_matter(trained: HiFiNet, faces: torch.Tensor) -> None:
    orders = list(itertools.permutations(range(3)))
    packed = pack_references(torch.cat([faces[list(order)] for order in orders]), [3] * len(orders))
    rows = residuals(trained, packed)
    assert (rows - rows[:1]).abs().max() < 1e-5 * max(1.0, float(rows.abs().max()))


def test_save_and_load_gives_the_same_residuals_and_choices(
    trained: HiFiNet, faces: torch.Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    enable_propagation()
    loaded = HiFiNet.from_pretrained(tmp_path)
    disable_propagation()
    assert not [record for record in caplog.records if "not expected" in record.message]
    assert loaded.choices == load_preset("tiny").model
    assert isinstance(loaded, ControlNetModel)
    tokens = faces.reshape(1, -1, 64)
    torch.testing.assert_close(residuals(loaded, tokens), residuals(trained, tokens), atol=0, rtol=0)


def test_weights_come_from_the_unet(tiny: Modules) -> None:
    own = dict(tiny.hifinet.named_parameters())
    shared = {name: p for name, p in tiny.base.unet.named_parameters() if name in own}
    assert len(shared) > 50
    assert all(torch.equal(own[name], p) for name, p in shared.items())
    assert own.keys() - shared.keys() == {name for name in own if name.startswith("controlnet_")}


def test_a_refiner_of_another_width_is_refused(tiny: Modules) -> None:
    with pytest.raises(ConditionError, match=r"set model\.refiner\.dim"):
        HiFiNet.from_unet(tiny.base.unet, load_preset("sdxl").model)


def test_uint8_and_scaled_pictures_give_the_same_latents(tiny: Modules) -> None:
    picture = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    picture[..., 0, 0] = 0
    scaled = picture.float() / 127.5 - 1
    torch.testing.assert_close(landmark_latents(tiny.base.vae, picture), landmark_latents(tiny.base.vae, scaled))


def test_pictures_in_zero_to_one_or_to_255_are_refused(tiny: Modules) -> None:
    drawn = torch.zeros(1, 3, 64, 64)
    drawn[..., 30:34] = 1.0
    with pytest.raises(ConditionError, match=r"seem to be in \[0, 1\]"):
        landmark_latents(tiny.base.vae, drawn)
    with pytest.raises(ConditionError, match="expected -1 to 1"):
        encode_images(tiny.base.vae, drawn * 255)


def test_no_landmarks_is_the_latent_of_black_and_not_zero(tiny: Modules) -> None:
    latents = black_latents(tiny.base.vae, 64, 64)
    assert latents.abs().mean() > 0.5
