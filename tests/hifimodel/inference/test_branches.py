"""Control branches add up, each with its own tokens, strength, steps and place."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers import ControlNetModel  # noqa: E402

from hifimodel.errors import ConditionError  # noqa: E402
from hifimodel.inference.branches import Branch, StepInputs, summed_residuals  # noqa: E402
from hifimodel.inference.pipeline import HiFiPortraitPipeline  # noqa: E402
from tests.factories.portraits import SIZE_PX, person, pictures, quiet, seeded  # noqa: E402

if TYPE_CHECKING:
    from hifimodel.nets.loading import Modules

LATENT_PX = SIZE_PX // 4


@pytest.fixture(scope="module")
def stock_net(modules: Modules) -> ControlNetModel:
    """A stock ControlNet, as InstantID's IdentityNet and depth nets are; random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        net = ControlNetModel.from_unet(modules.base.unet, conditioning_embedding_out_channels=(8, 16, 16)).eval()
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if name.startswith("controlnet_"):
                    parameter.add_(torch.randn(parameter.shape) * 0.1)
    return net


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def step_inputs(n_rows: int = 1, is_guided: bool = False) -> StepInputs:
    size = (n_rows, 4, LATENT_PX, LATENT_PX)
    text, pooled = noise(n_rows, 77, 64, seed=1), noise(n_rows, 32, seed=2)
    return StepInputs(noise(*size), torch.tensor(500), text, pooled, torch.zeros(n_rows, 6), is_guided)


def face_branch(modules: Modules, **options: Any) -> Branch:
    return Branch(modules.hifinet, noise(1, 4, LATENT_PX, LATENT_PX, seed=3), noise(1, 18, 64, seed=4), **options)


@torch.no_grad()
def residuals_of(*branches: Branch, inputs: StepInputs | None = None) -> list[torch.Tensor]:
    inputs = inputs or step_inputs()
    n_pictures = len(inputs.latents) // (2 if inputs.is_guided else 1)
    total = summed_residuals([branch.fitted(n_pictures, inputs.latents) for branch in branches], inputs, 0, 1)
    assert total is not None
    return [*total.down, total.mid]


def test_two_branches_add_their_residuals_each_with_its_own_tokens_and_scale(
    modules: Modules, stock_net: ControlNetModel
) -> None:
    face = face_branch(modules)
    identity = Branch(stock_net, noise(1, 3, SIZE_PX, SIZE_PX).sigmoid(), noise(1, 16, 64, seed=5), scale=0.5)
    both = residuals_of(face, identity)
    for total, one, other in zip(both, residuals_of(face), residuals_of(identity), strict=True):
        torch.testing.assert_close(total, one + other)
    full = Branch(stock_net, identity.condition, identity.tokens)
    for half, whole in zip(residuals_of(identity), residuals_of(full), strict=True):
        torch.testing.assert_close(half, whole / 2)


def test_a_branch_without_tokens_reads_the_prompt(stock_net: ControlNetModel) -> None:
    inputs = step_inputs()
    hint = noise(1, 3, SIZE_PX, SIZE_PX).sigmoid()
    depth, told = Branch(stock_net, hint), Branch(stock_net, hint, tokens=inputs.text)
    for one, other in zip(residuals_of(depth), residuals_of(told), strict=True):
        assert torch.equal(one, other)


def test_a_mask_keeps_a_branch_to_its_place(modules: Modules) -> None:
    left = torch.zeros(1, 1, SIZE_PX, SIZE_PX)
    left[..., : SIZE_PX // 2] = 1.0
    for kept, whole in zip(
        residuals_of(face_branch(modules, mask=left)), residuals_of(face_branch(modules)), strict=True
    ):
        half = whole.shape[-1] // 2
        assert torch.equal(kept[..., :half], whole[..., :half])
        assert not kept[..., half:].any()


def test_unconditional_tokens_are_copied_to_the_length_of_the_others(modules: Modules) -> None:
    few = noise(1, 9, 64, seed=6)
    branch = face_branch(modules, uncond_tokens=few)
    inputs = step_inputs(2, is_guided=True)
    rows = residuals_of(branch, inputs=inputs)
    alone = Branch(modules.hifinet, branch.condition, few)
    first = StepInputs(
        inputs.latents[:1], inputs.timestep, inputs.text[:1], inputs.pooled[:1], inputs.time_ids[:1], is_guided=False
    )
    for row, expected in zip(rows, residuals_of(alone, inputs=first), strict=True):
        torch.testing.assert_close(row[:1], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("start", "end", "steps"),
    [(0.0, 1.0, list(range(8))), (0.25, 0.5, [2, 3]), (0.0, 0.6, [0, 1, 2, 3]), (0.9, 1.0, [])],
)
def test_start_and_end_are_shares_of_the_steps(modules: Modules, start: float, end: float, steps: list[int]) -> None:
    branch = face_branch(modules, start=start, end=end)
    assert [step for step in range(8) if branch.is_active(step, 8)] == steps


def test_a_branch_outside_of_its_steps_or_at_scale_zero_does_not_run(
    pipeline: HiFiPortraitPipeline, stock_net: ControlNetModel
) -> None:
    runs = []
    handles = [
        pipeline.hifinet.register_forward_pre_hook(lambda net, given: runs.append("face")),
        stock_net.register_forward_pre_hook(lambda net, given: runs.append("depth")),
    ]
    hint = noise(1, 3, SIZE_PX, SIZE_PX).sigmoid()
    branches = [Branch(stock_net, hint, start=0.5), Branch(stock_net, hint, scale=0.0)]
    pictures(pipeline, "a portrait", person(0), branches=branches, num_inference_steps=4, control_guidance_end=0.5)
    for handle in handles:
        handle.remove()
    assert runs == ["face", "face", "depth", "depth"]


@pytest.mark.parametrize("guidance", [0.0, 3.0])
def test_hifinet_and_another_net_work_together_in_a_batch(
    pipeline: HiFiPortraitPipeline, stock_net: ControlNetModel, guidance: float
) -> None:
    prompts, hints = ["a portrait", "a man"], noise(2, 3, SIZE_PX, SIZE_PX).sigmoid()
    options: dict[str, Any] = {"guidance_scale": guidance}
    both = pictures(
        pipeline, prompts, person(0), branches=[Branch(stock_net, hints)], generator=seeded(1, 2), **options
    )
    second = pictures(
        pipeline, "a man", person(0), branches=[Branch(stock_net, hints[1:])], generator=seeded(2), **options
    )
    alone = pictures(pipeline, "a man", person(0), generator=seeded(2), **options)
    torch.testing.assert_close(both[1:], second, atol=1e-4, rtol=0)
    assert not torch.equal(second, alone)


def test_an_ip_adapter_on_the_unet_works_beside_hifinet_as_instantid_needs(modules: Modules) -> None:
    pipeline = quiet(HiFiPortraitPipeline.from_modules(copy.deepcopy(modules)))
    pipeline.load_ip_adapter([random_ip_adapter(pipeline)], None, None, image_encoder_folder=None)
    first, second = noise(2, 1, 16), noise(2, 1, 16, seed=1)  # the unconditional half first
    made = [
        pictures(
            pipeline,
            "a portrait",
            person(0),
            guidance_scale=3.0,
            ip_adapter_image_embeds=[embeds],
            generator=seeded(0),
        )
        for embeds in (first, second, first)
    ]
    assert torch.equal(made[0], made[2])
    assert not torch.equal(made[0], made[1])


def random_ip_adapter(pipeline: HiFiPortraitPipeline) -> dict[str, dict[str, torch.Tensor]]:
    """Weights in IP-Adapter's layout for 16 numbers per picture and 4 tokens of width 64."""
    cross = [name for name in pipeline.unet.attn_processors if name.endswith("attn2.processor")]
    widths = [pipeline.unet.get_submodule(name.removesuffix(".processor")).to_k.out_features for name in cross]
    keys = {
        f"{1 + 2 * place}.{name}.weight": noise(width, 64, seed=place)
        for place, width in enumerate(widths)
        for name in ("to_k_ip", "to_v_ip")
    }
    projection = {"proj.weight": noise(4 * 64, 16), "proj.bias": noise(4 * 64), "norm.weight": noise(64)}
    return {"image_proj": projection | {"norm.bias": noise(64)}, "ip_adapter": keys}


@pytest.mark.parametrize("span", [(0.5, 0.5), (0.6, 0.4), (-0.1, 1.0), (0.0, 8.0)])
def test_an_empty_or_impossible_range_of_steps_is_one_line(modules: Modules, span: tuple[float, float]) -> None:
    with pytest.raises(ConditionError, match="as shares of the steps"):
        face_branch(modules, start=span[0], end=span[1])


def test_batches_and_tokens_that_do_not_fit_are_one_line(modules: Modules) -> None:
    with pytest.raises(ConditionError, match="a batch of 2 for 3 images"):
        Branch(modules.hifinet, noise(2, 4, 8, 8)).fitted(3, noise(1))
    with pytest.raises(ConditionError, match="5 unconditional tokens for 18 tokens"):
        face_branch(modules, uncond_tokens=noise(1, 5, 64))
