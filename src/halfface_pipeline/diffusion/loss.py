"""The training loss of one batch (Ho et al. 2020, algorithm 1), conditioned on what is known if anything is."""

import torch
from diffusers import DDPMScheduler

from ..config.schema import WHOLE, ModelConfig
from ..remote_code.halves import predict, size_multiple
from ..remote_code.masks import masked_input
from .halves import split
from .parameterization import min_snr_weights, target, weighted_mse


def denoising_loss(
    network: torch.nn.Module,
    scheduler: DDPMScheduler,
    model: ModelConfig,
    clean: torch.Tensor,
    timesteps: torch.Tensor,
    noise: torch.Tensor,
    min_snr_gamma: float | None = None,
    masks: torch.Tensor | None = None,
) -> torch.Tensor:
    """The mean square of target - network(sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, known half, t) over a batch.

    With `model.hidden_half` all, x_0 is the whole image and there is no known half. With any, x_0 is the whole image,
    the network gets it noisy where a mask hides it and clean elsewhere, and only hidden pixels count, as in Palette's
    inpainting (Saharia et al. 2022).

    Args:
        network: The denoiser.
        scheduler: The forward process; its `prediction_type` chooses the target.
        model: Which half is hidden, and the layout of the known one.
        clean: Whole images, (N, C, H, W) in [-1, 1].
        timesteps: t, (N,) integers from 0 to T-1.
        noise: eps, (N, C, h, w): of the hidden halves in the canonical orientation, or of the whole images.
        min_snr_gamma: Clamp of the Min-SNR weighting (Hang et al. 2023); None weighs all timesteps alike.
        masks: With `model.hidden_half` any, true where hidden, (N, 1, H, W).

    Returns:
        A scalar; with `epsilon` and no weighting L_simple (Ho et al. 2020, equation 14).
    """
    known, hidden = (None, clean) if model.hidden_half in WHOLE else split(clean, model.hidden_half)
    noisy = scheduler.add_noise(hidden, noise, timesteps)
    if masks is not None:
        noisy = masked_input(noisy, clean, masks)
    prediction = predict(network, noisy, known, timesteps, model.known_layout, size_multiple(network))
    weights = min_snr_weights(scheduler, timesteps, min_snr_gamma)
    return weighted_mse(prediction, target(scheduler, hidden, noise, timesteps), weights, masks)
