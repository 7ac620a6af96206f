"""The identity loss: the window stands for the whole decode, gates pass what they should."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers import AutoencoderKL, DDPMScheduler  # noqa: E402

from hifidata.image.align import TEMPLATE_PX  # noqa: E402
from hifimodel.config import TrainConfig, load_preset  # noqa: E402
from hifimodel.errors import ConfigError  # noqa: E402
from hifimodel.losses.align import align_faces  # noqa: E402
from hifimodel.losses.identity import (  # noqa: E402
    IdentityLoss,
    NoiseLevels,
    face_window,
    mean_embeddings,
)
from hifimodel.nets.architectures import SCHEDULER, SDXL_VAE, averaging_vae  # noqa: E402
from hifimodel.nets.embedder import load_embedder  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

KPS = torch.tensor(TEMPLATE_PX)
EMBEDDER = load_embedder("tiny-random")
ALPHAS = DDPMScheduler(**SCHEDULER).alphas_cumprod


def settings(*overrides: str) -> TrainConfig:
    return load_preset("tiny", ["train.id_gate=target_kps", *(f"train.{text}" for text in overrides)]).train


def levels(*timesteps: int) -> NoiseLevels:
    return NoiseLevels(torch.tensor(timesteps), ALPHAS)


def latents(count: int, side: int = 32) -> torch.Tensor:
    coarse = torch.randn(count, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(count))
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")


def test_mean_of_references_is_taken_per_sample() -> None:
    embeddings = torch.eye(4)
    expected = torch.stack([torch.eye(4)[0], torch.tensor([0, 1 / 3, 1 / 3, 1 / 3])])
    torch.testing.assert_close(mean_embeddings(embeddings, [1, 3]), expected)


def test_window_holds_the_aligned_crop_and_its_margin_and_stays_inside() -> None:
    kps = torch.stack([KPS * 2 + 300, KPS * 1.5 + 0.0, KPS + torch.tensor([900.0, 20.0])])
    window = face_window(kps, latent_side=128, factor=8, margin=0.25)
    assert window.side == math.ceil(222 * 1.5 / 8 / 8) * 8
    assert all(0 <= start <= 128 - window.side for start in (*window.tops, *window.lefts))
    left, top = 300 / 8, 300 / 8
    assert window.lefts[0] <= left - 0.25 * 222 / 8
    assert window.tops[0] <= top - 0.25 * 222 / 8
    assert face_window(kps * 10, 128, 8, 0.25).side == 128


def decoded_faces(
    vae: AutoencoderKL, z: torch.Tensor, kps: torch.Tensor, margins: Sequence[float]
) -> list[torch.Tensor]:
    """Aligned faces out of the full decode, and out of a window for each margin."""
    factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
    faces = [align_faces(vae.decode(z).sample, kps)]
    for margin in margins:
        window = face_window(kps, z.shape[-1], factor, margin)
        assert window.side < z.shape[-1]
        faces.append(align_faces(vae.decode(window.cut(z)).sample, kps - window.offsets_px(factor)))
    return faces


def psnr_db(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = one.detach(), other.detach()
    return 10 * math.log10(float(other.max() - other.min()) ** 2 / float((one - other).square().mean()))


def test_window_decode_equals_the_full_decode_with_the_tiny_vae() -> None:
    kps = torch.stack([KPS * 0.3 + 30, KPS * 0.3 + torch.tensor([80.0, 45.0])])
    full, part = decoded_faces(averaging_vae(), latents(2), kps, [0.5])
    assert psnr_db(part, full) > 60


def test_window_decode_is_near_the_full_decode_and_its_gradient_with_a_random_vae_of_sdxls_shape() -> None:
    # Attention and group norm see the window instead of the picture: near, not equal, and nearer with a margin.
    torch.manual_seed(0)
    narrow = {**SDXL_VAE, "block_out_channels": (16, 16, 32, 32), "norm_num_groups": 8, "layers_per_block": 1}
    vae = AutoencoderKL(**narrow).eval().requires_grad_(False)
    z = latents(1, 48).requires_grad_(True)
    faces = decoded_faces(vae, z, KPS[None] * 0.9 + 140, [0.0, 0.5, 1.0])
    direction = torch.randn(1, 3, 14, 14, generator=torch.Generator().manual_seed(4))
    direction = torch.nn.functional.interpolate(direction, scale_factor=8)
    full, *gradients = [torch.autograd.grad((face * direction).sum(), z)[0].flatten() for face in faces]
    near = [psnr_db(face, faces[0]) for face in faces[1:]]
    same_way = [float(torch.nn.functional.cosine_similarity(gradient, full, dim=0)) for gradient in gradients]
    assert near == sorted(near)
    assert same_way == sorted(same_way)
    assert near[1] > 28  # dB; measured 30.8, without margin 16.9
    assert same_way[1] > 0.88  # measured 0.91, without margin 0.54


def run(loss: IdentityLoss, noise: NoiseLevels, count: int = 3):
    x0 = latents(count).requires_grad_(True)
    references = torch.nn.functional.normalize(
        torch.randn(count, 64, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    result = loss(x0, references, (KPS * 0.5 + 20).expand(count, 5, 2), noise)
    return result, torch.autograd.grad(result.loss, x0)[0].abs().amax(dim=(1, 2, 3))


def test_identity_loss_is_zero_for_the_same_face_and_falls_along_its_gradient() -> None:
    vae, loss = averaging_vae(), IdentityLoss(averaging_vae(), EMBEDDER, settings())
    x0, kps, noise = latents(2), (KPS * 0.5 + 20).expand(2, 5, 2), levels(10, 10)
    own = EMBEDDER(align_faces(vae.decode(x0 / 2.0).sample, kps)).detach()
    assert loss(x0, own, kps, noise).loss.item() == pytest.approx(0, abs=1e-3)
    moved = (x0 + torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))).requires_grad_(True)
    before = loss(moved, own, kps, noise).loss
    (gradient,) = torch.autograd.grad(before, moved)
    assert loss(moved - gradient * 0.1 / gradient.norm(), own, kps, noise).loss < before


def test_target_kps_gate_passes_every_sample() -> None:
    result, gradients = run(IdentityLoss(averaging_vae(), EMBEDDER, settings()), levels(1, 500, 999))
    assert result.n_gated == 3
    assert (gradients > 0).all()


def test_timestep_gate_passes_little_noise_alone() -> None:
    loss = IdentityLoss(averaging_vae(), EMBEDDER, settings("id_gate=timestep", "id_max_timestep=400"))
    result, gradients = run(loss, levels(900, 400, 401))
    assert result.n_gated == 1
    assert (gradients > 0).tolist() == [False, True, False]


def test_detector_gate_passes_samples_with_a_face_and_aligns_by_its_points() -> None:
    shapes: list[tuple[int, ...]] = []

    def detector(pictures: np.ndarray) -> list[np.ndarray | None]:
        shapes.append(pictures.shape)
        assert pictures.dtype == np.uint8
        return [None, KPS.numpy() * 0.4 + 5, None]

    vae = averaging_vae()
    loss = IdentityLoss(vae, EMBEDDER, settings("id_gate=detector"), detector)
    result, gradients = run(loss, levels(10, 10, 10))
    assert result.n_gated == 1
    assert (gradients > 0).tolist() == [False, True, False]
    assert shapes[0][0] == 3
    assert shapes[0][1] == shapes[0][2] <= 128


def test_no_face_at_all_is_a_zero_loss_on_the_graph_and_not_nan() -> None:
    for loss in (
        IdentityLoss(averaging_vae(), EMBEDDER, settings("id_gate=detector"), lambda pictures: [None] * len(pictures)),
        IdentityLoss(averaging_vae(), EMBEDDER, settings("id_gate=timestep", "id_max_timestep=0")),
    ):
        result, gradients = run(loss, levels(900, 900, 900))
        assert (result.loss.item(), result.n_gated) == (0.0, 0)
        assert math.isnan(float(result.similarity))
        assert not gradients.any()


def test_detector_gate_without_detector_is_one_line_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match="set it to timestep"):
        IdentityLoss(averaging_vae(), EMBEDDER, settings("id_gate=detector"))
