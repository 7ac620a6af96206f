"""The noise error: x0 comes back exactly, and errors grow by the known factor."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers import DDPMScheduler  # noqa: E402

from hifimodel.errors import ConfigError  # noqa: E402
from hifimodel.losses.denoising import denoising_loss, denoising_target, predict_x0  # noqa: E402
from hifimodel.losses.identity import NoiseLevels  # noqa: E402
from hifimodel.nets.architectures import SCHEDULER  # noqa: E402


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_x0_is_recovered_exactly_from_the_true_prediction_at_every_noise_level(kind: str) -> None:
    scheduler = DDPMScheduler(**{**SCHEDULER, "prediction_type": kind})
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 10, 4, 8, 8, generator=generator)
    timesteps = torch.linspace(0, 999, 10).long()
    noisy = scheduler.add_noise(x0, noise, timesteps)
    target = denoising_target(scheduler, x0, noise, timesteps)
    torch.testing.assert_close(predict_x0(scheduler, noisy, target, timesteps), x0, atol=1e-4, rtol=0)
    assert denoising_loss(target, target) == 0


def test_an_error_in_the_noise_grows_by_the_known_factor() -> None:
    scheduler = DDPMScheduler(**SCHEDULER)
    timesteps = torch.tensor([250, 700, 999])
    zero = torch.zeros(3, 4, 2, 2)
    grown = predict_x0(scheduler, zero, zero + 1, timesteps).abs().amax(dim=(1, 2, 3))
    torch.testing.assert_close(grown, torch.tensor([0.70, 3.3, 14.6]), atol=0.05, rtol=0.01)
    weights = NoiseLevels(timesteps, scheduler.alphas_cumprod).identity_weights("error")
    torch.testing.assert_close(weights * grown, torch.tensor([0.70, 1.0, 1.0]), atol=0.01, rtol=0)


def test_another_prediction_type_is_refused() -> None:
    scheduler = DDPMScheduler(**{**SCHEDULER, "prediction_type": "sample"})
    with pytest.raises(ConfigError, match="sample is not supported"):
        denoising_target(scheduler, *[torch.zeros(1, 4, 2, 2)] * 2, torch.zeros(1).long())
