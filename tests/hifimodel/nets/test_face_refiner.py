"""The refiner follows Eq. 2-4, and packing references changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from hifimodel.config import load_preset  # noqa: E402
from hifimodel.errors import ConditionError  # noqa: E402
from hifimodel.nets.face_refiner import FaceRefiner, pack_references  # noqa: E402

TINY = load_preset("tiny").model
LEARNED = ["model.face_drop_rate=0.05", "model.face_in_uncond=learned"]


@pytest.fixture
def refiner() -> FaceRefiner:
    torch.manual_seed(0)
    return FaceRefiner.from_model_config(TINY, clip_dim=48).eval()


def features(count: int, clip_dim: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    embeddings = torch.randn(count, TINY.embedder_dim, generator=generator)
    return torch.randn(count, 17, clip_dim, generator=generator), torch.nn.functional.normalize(embeddings, dim=-1)


def test_full_size_has_33_tokens_of_2048_and_339_million_parameters() -> None:
    with torch.device("meta"):
        refiner = FaceRefiner.from_model_config(load_preset("sdxl").model, clip_dim=1024)
        out = refiner(torch.empty(3, 257, 1024), torch.empty(3, 512))
    assert out.shape == (3, 33, 2048)
    assert round(sum(p.numel() for p in refiner.parameters()) / 1e6) == 339


def test_every_reference_is_refined_by_itself(refiner: FaceRefiner) -> None:
    clip, embeddings = features(5)
    together = refiner(clip, embeddings)
    alone = torch.cat([refiner(clip[k : k + 1], embeddings[k : k + 1]) for k in range(5)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_both_local_and_global_features_reach_every_token(refiner: FaceRefiner) -> None:
    clip, embeddings = features(1)
    clip.requires_grad_(True)
    embeddings.requires_grad_(True)
    for token in range(refiner.n_tokens):
        grads = torch.autograd.grad(refiner(clip, embeddings)[0, token, 0], (clip, embeddings))
        assert all(grad.abs().max() > 0 for grad in grads)


def test_layers_start_different(refiner: FaceRefiner) -> None:
    first, second = (layer.linear1.weight for layer in refiner.layers[:2])
    assert not torch.equal(first, second)


def test_save_and_load_gives_the_same_tokens_and_config(refiner: FaceRefiner, tmp_path: Path) -> None:
    refiner.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    loaded = FaceRefiner.from_pretrained(tmp_path)
    assert loaded.config["refiner"] == TINY.refiner.model_dump()
    torch.testing.assert_close(loaded(*features(2)), refiner(*features(2)), atol=0, rtol=0)


def test_wrong_encoder_is_named(refiner: FaceRefiner) -> None:
    with pytest.raises(ConditionError, match=r"expected \(R, tokens, 48\)"):
        refiner(*features(2, clip_dim=32))


def test_unconditional_states_exist_only_as_trained(refiner: FaceRefiner) -> None:
    learned = FaceRefiner.from_model_config(load_preset("tiny", LEARNED).model, 48)
    assert learned.unconditional("learned", 17).shape == (1, refiner.n_tokens, 64)
    assert refiner.unconditional("zeros", 17).shape == (1, refiner.n_tokens, 64)
    with pytest.raises(ConditionError, match="no state for 'learned'"):
        refiner.unconditional("learned", 17)


def test_packing_repeats_every_reference_equally_often() -> None:
    tokens = torch.arange(6.0).view(6, 1, 1).expand(6, 2, 1)
    packed = pack_references(tokens, [1, 2, 3])
    assert packed.shape == (3, 12, 1)
    assert packed[:, ::2, 0].tolist() == [[0] * 6, [1, 2] * 3, [3, 4, 5] * 2]


def test_packing_to_a_fixed_length_keeps_shapes_static() -> None:
    shapes = {pack_references(torch.zeros(sum(c), 9, 4), c, tile_to=12).shape for c in ([1, 1], [4, 3], [2, 1], [3, 3])}
    assert shapes == {(2, 108, 4)}


@pytest.mark.parametrize(
    ("counts", "tile_to", "hint"), [([1, 1], None, "add up"), ([0, 3], None, "at least 1"), ([3], 4, "use 12")]
)
def test_counts_that_do_not_fit_are_refused(counts: list[int], tile_to: int | None, hint: str) -> None:
    with pytest.raises(ConditionError, match=hint):
        pack_references(torch.zeros(3, 2, 4), counts, tile_to)
