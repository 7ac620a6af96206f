"""The noise error (Eq. 6), and the denoised latents that a prediction implies."""

from __future__ import annotations

from diffusers import DDPMScheduler
from torch import Tensor
from torch.nn import functional

from hifimodel.errors import ConfigError


def denoising_target(scheduler: DDPMScheduler, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Return the target (B, 4, h, w) of the UNet: noise or velocity, by the schedule of the base.

    Raises:
        ConfigError: the schedule predicts something else.
    """
    kind = scheduler.config["prediction_type"]
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return scheduler.get_velocity(latents, noise, timesteps)
    raise ConfigError(f"scheduler: prediction_type {kind} is not supported; use a base of epsilon or v_prediction")


def denoising_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error in float32.

    Source: section 3.3, Eq. 6. The paper writes an L2 norm; all code bases that it builds on take the mean square.
    """
    return functional.mse_loss(prediction.float(), target.float())


def predict_x0(scheduler: DDPMScheduler, noisy: Tensor, prediction: Tensor, timesteps: Tensor) -> Tensor:
    """Return the denoised latents that a prediction implies, in float32.

    Args:
        scheduler: gives the noise levels and the kind of prediction.
        noisy: (B, 4, h, w), z_t.
        prediction: (B, 4, h, w), noise or velocity.
        timesteps: (B,).

    Returns:
        (B, 4, h, w). For noise prediction, an error grows by sqrt((1 - a) / a): 14.6 at the last step.

    Source: section 3.3, x0_hat of Eq. 7, from the closed form of the forward process.
    """
    kept = scheduler.alphas_cumprod.to(noisy.device)[timesteps].float().view(-1, 1, 1, 1)
    noisy, prediction = noisy.float(), prediction.float()
    if scheduler.config["prediction_type"] == "v_prediction":
        return kept.sqrt() * noisy - (1 - kept).sqrt() * prediction
    return (noisy - (1 - kept).sqrt() * prediction) / kept.sqrt()
