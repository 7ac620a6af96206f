"""What the nets see when a portrait is made is what they saw in training."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from hifimodel.config import load_preset  # noqa: E402
from hifimodel.data import Batch  # noqa: E402
from hifimodel.inference.conditions import PortraitCondition  # noqa: E402
from hifimodel.inference.pipeline import HiFiPortraitPipeline  # noqa: E402
from hifimodel.nets.loading import build_modules, load_trained, save_trained  # noqa: E402
from hifimodel.training.frozen import FrozenModels  # noqa: E402
from hifimodel.training.step import Step, TrainedNets  # noqa: E402
from tests.factories.portraits import SIZE_PX, person, quiet, speaking  # noqa: E402

POLICIES = {
    "paper": (),
    "all dropped": ("face_in_uncond=learned", "face_drop_rate=0.1", "pooled_text=zeros", "empty_text=encode"),
}


def batch_of(people: list[PortraitCondition], captions: list[str]) -> Batch:
    """The training batch that holds the same people; the targets are of no account."""
    sizes = [float(side) for side in (SIZE_PX, SIZE_PX, 0, 0, SIZE_PX, SIZE_PX)]
    return Batch(
        pixels_u8=torch.zeros(len(people), SIZE_PX, SIZE_PX, 3, dtype=torch.uint8),
        landmarks_u8=torch.stack([one.landmarks_u8.permute(1, 2, 0) for one in people]),
        captions=captions,
        time_ids=torch.tensor([sizes] * len(people)),
        target_kps=torch.zeros(len(people), 5, 2),
        reference_clip=torch.cat([one.clip_crops_u8 for one in people]),
        reference_faces=torch.zeros(0, 3, 112, 112, dtype=torch.uint8),
        reference_embeddings=torch.cat([one.embeddings for one in people]),
        counts=[one.n_references for one in people],
        keys=[str(number) for number in range(len(people))],
        reference_keys=[],
    )


@pytest.mark.parametrize("policy", POLICIES)
@torch.no_grad()
def test_the_pipeline_predicts_the_noise_that_training_predicts(policy: str, tmp_path: Path) -> None:
    preset = load_preset("tiny", [f"model.{choice}" for choice in POLICIES[policy]])
    save_trained(speaking(build_modules(preset.model)), tmp_path)
    modules = load_trained(tmp_path)
    people, captions = [person(0, 2), person(1, 3)], ["a portrait", ""]
    dropped = torch.tensor([False, policy == "all dropped"])
    start = torch.randn(2, 4, SIZE_PX // 4, SIZE_PX // 4, generator=torch.Generator().manual_seed(0))

    parts = copy.deepcopy(modules)
    step = Step(FrozenModels(parts, preset.model, preset.train, torch.device("cpu")), None, 0.0)
    prepared = step.frozen.prepare(batch_of(people, captions), step.frozen.encode_targets)
    timesteps = torch.tensor([999, 999])
    expected = step.predict(TrainedNets(parts, preset), prepared, start, timesteps, dropped)

    shown = [
        replace(one, clip_crops_u8=None, embeddings=None) if gone else one
        for one, gone in zip(people, dropped, strict=True)
    ]
    pipeline = quiet(HiFiPortraitPipeline.from_modules(modules))
    predicted = []
    pipeline.unet.register_forward_hook(lambda net, given, result: predicted.append(result[0]))
    options = {"height": SIZE_PX, "width": SIZE_PX, "num_inference_steps": 1, "output_type": "latent"}
    pipeline(captions, shown, latents=start, **options)
    torch.testing.assert_close(predicted[0], expected, atol=1e-4, rtol=1e-4)
