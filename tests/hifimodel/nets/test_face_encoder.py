"""The image encoder: width read from its config, the chosen layer, CLIP's own normalisation."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from hifimodel.errors import ConditionError  # noqa: E402
from hifimodel.nets.face_encoder import FaceEncoder  # noqa: E402


def tower(hidden: int = 48, patch: int = 8, side: int = 32) -> transformers.CLIPVisionModel:
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=hidden,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=side,
        patch_size=patch,
    )
    return transformers.CLIPVisionModel(config)


def pictures(side: int, count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("hidden", [32, 48])
def test_d1_is_read_from_the_encoder(hidden: int) -> None:
    encoder = FaceEncoder(tower(hidden), layer=-2)
    assert encoder.dim == hidden
    assert encoder(pictures(32)).shape == (2, encoder.n_tokens, hidden)


def test_224_px_and_patches_of_14_give_257_tokens() -> None:
    encoder = FaceEncoder(tower(16, patch=14, side=224), layer=-1)
    assert encoder(pictures(224, 1)).shape[1] == encoder.n_tokens == 257


def test_layer_is_the_configured_one() -> None:
    vision = tower()
    outputs = {layer: FaceEncoder(vision, layer)(pictures(32)) for layer in (-1, -2, -3)}
    after = vision.encoder.layers[-1](outputs[-2], attention_mask=None)
    torch.testing.assert_close(after[0] if isinstance(after, tuple) else after, outputs[-1])
    with pytest.raises(ConditionError, match="-3 to -1"):
        FaceEncoder(vision, -4)


def test_normalisation_equals_that_of_clips_own_processor() -> None:
    picture = pictures(32, 1)
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)
    expected = processor(np.moveaxis(picture[0].numpy(), 0, 2), return_tensors="pt")["pixel_values"]
    encoder = FaceEncoder(tower(), -1)
    torch.testing.assert_close((picture / 255.0 - encoder.mean) / encoder.std, expected, atol=1e-5, rtol=0)


def test_other_sizes_are_resized() -> None:
    encoder = FaceEncoder(tower(), -2)
    flat = torch.full((1, 3, 1, 1), 200, dtype=torch.uint8)
    torch.testing.assert_close(
        encoder(flat.expand(1, 3, 80, 80)), encoder(flat.expand(1, 3, 32, 32)), atol=1e-4, rtol=0
    )


def test_it_is_frozen_and_takes_only_uint8() -> None:
    encoder = FaceEncoder(tower(), -2).train()
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not encoder(pictures(32)).requires_grad
    with pytest.raises(ConditionError, match="expected uint8"):
        encoder(torch.zeros(1, 3, 32, 32))
