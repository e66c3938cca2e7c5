"""What is minimized: the regression targets of the denoiser and the weight of each noise level."""

import torch
from diffusers import DDPMScheduler

from .samplers import signal_to_noise


def target(
    scheduler: DDPMScheduler, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """What the network should answer for x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps.

    Args:
        scheduler: The training scheduler; its `prediction_type` chooses the target.
        clean: x_0, (N, C, H, W) in [-1, 1].
        noise: eps, (N, C, H, W), standard normal.
        timesteps: t, (N,) integers from 0 to T-1.

    Returns:
        (N, C, H, W): eps (Ho et al. 2020, equation 14), v = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0 (Salimans and
        Ho 2022, appendix D), or x_0.
    """
    prediction_type = scheduler.config.prediction_type
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return scheduler.get_velocity(clean, noise, timesteps)
    return clean


def noise_and_clean(
    scheduler: DDPMScheduler, prediction: torch.Tensor, noisy: torch.Tensor, timesteps: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inverse of `target`: eps and x_0 from what the network predicts at x_t; shapes and arguments as there."""
    abar = scheduler.alphas_cumprod.to(noisy)[timesteps].view(-1, 1, 1, 1)
    signal, noise = abar.sqrt(), (1 - abar).sqrt()
    prediction_type = scheduler.config.prediction_type
    if prediction_type == "epsilon":
        return prediction, (noisy - noise * prediction) / signal
    if prediction_type == "v_prediction":
        return signal * prediction + noise * noisy, signal * noisy - noise * prediction
    return (noisy - signal * prediction) / noise, prediction


def min_snr_weights(scheduler: DDPMScheduler, timesteps: torch.Tensor, gamma: float | None) -> torch.Tensor:
    """Weight of each sample's squared error (Hang et al. 2023, section 3.4).

    min(SNR, gamma) weighs errors of x_0; an error of eps is SNR times, one of v is (SNR + 1) times that of x_0.

    Args:
        scheduler: The training scheduler.
        timesteps: t, (N,) integers from 0 to T-1.
        gamma: The clamp; None weighs all alike.

    Returns:
        (N,) weights.
    """
    if gamma is None:
        return torch.ones(len(timesteps), device=timesteps.device)
    snr = signal_to_noise(scheduler, timesteps)
    per_error = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones_like(snr)}
    return snr.clamp(max=gamma) / per_error[scheduler.config.prediction_type]


def weighted_mse(
    prediction: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor, masks: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean over the batch of weight times mean squared error of each sample, a scalar in float32.

    With masks, (N, 1, H, W), true where hidden, the mean of a sample is over its hidden pixels: all samples count
    alike.
    """
    squared = (prediction.float() - wanted.float()).square()
    if masks is not None:
        squared = squared * (masks / masks.float().mean(dim=(1, 2, 3), keepdim=True))
    return (weights * squared.mean(dim=tuple(range(1, prediction.ndim)))).mean()
