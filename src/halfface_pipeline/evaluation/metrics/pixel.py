"""Pixel metrics of completed halves.

Halves are (..., 3, h, w) in [0, 1] and canonical orientation: the seam is at the first row of the hidden half and the
last of the known half.
"""

import torch
import torch.nn.functional as F

from .registry import SEAM_ROWS


def determined_pixels(samples: torch.Tensor) -> torch.Tensor:
    """Pixels (N, h, w) that the known half determines: equal in all exact samples (N, R, 3, h, w)."""
    return (samples == samples[:, :1]).all(dim=1).all(dim=1)


def masked_error(hidden: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute error (N, K) of completions over the pixels of a mask (N, h, w); NaN where it is empty."""
    error = (hidden - truth[:, None]).abs().mean(dim=2)
    return (error * mask[:, None]).sum(dim=(-2, -1)) / mask.sum(dim=(-2, -1))[:, None]


def residual_noise(hidden: torch.Tensor) -> torch.Tensor:
    """Standard deviation (...) of white noise in images (..., 3, h, w), estimated where they are smooth.

    The difference of two Laplacians does not respond to constants, linear ramps and most edges (Immerkaer, Fast noise
    variance estimation, 1996); the median of its absolute value ignores the remaining edges.
    """
    kernel = hidden.new_tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    flat = hidden.reshape(-1, 1, *hidden.shape[-2:])
    response = F.conv2d(flat, kernel[None, None]).reshape(*hidden.shape[:-3], -1)
    median_of_absolute_normal, norm = 0.6745, 6.0
    return response.abs().median(dim=-1).values / (median_of_absolute_normal * norm)


def sharpness(hidden: torch.Tensor) -> torch.Tensor:
    """Root mean square of the Laplacian (...) of images (..., 3, h, w): edges, texture and noise.

    Pech-Pacheco et al. (2000) use its variance. It is 0 for constant and linear images.
    """
    kernel = hidden.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    response = F.conv2d(hidden.reshape(-1, 1, *hidden.shape[-2:]), kernel[None, None])
    return response.square().reshape(*hidden.shape[:-3], -1).mean(dim=-1).sqrt()


def blur_to_sharpness(images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mixes images (..., 3, h, w) with their own blur until their sharpness is the target (...).

    Sharpness is the root mean square of a linear filter, so that of (1 - t) x + t blur(x), with the 3 x 3 binomial
    filter, equals the target at the smaller root of a quadratic in t, at most 1. Less sharp images stay unchanged.
    """
    line = images.new_tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line)[None, None]
    padded = F.pad(images.reshape(-1, 1, *images.shape[-2:]), (1, 1, 1, 1), mode="replicate")
    blurred = F.conv2d(padded, kernel).reshape(images.shape)
    # By the polarization identity the product of both responses follows from their squares and that of the difference.
    sharp, soft, apart = (sharpness(each).square() for each in (images, blurred, images - blurred))
    product = (sharp + soft - apart) / 2
    root = ((sharp - product).square() - apart * (sharp - target.square())).clamp_min(0).sqrt()
    share = ((sharp - product - root) / apart).nan_to_num(0.0).clamp(0, 1)[..., None, None, None]
    return (1 - share) * images + share * blurred


def add_noise_to(images: torch.Tensor, target: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Adds white noise to images (..., 3, h, w) until their residual noise is at least the target (...)."""
    missing = (target.square() - residual_noise(images).square()).clamp_min(0).sqrt()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return images + missing[..., None, None, None] * noise


def seam_gradient(known: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference (...) of the two rows at the seam of halves (..., 3, h, w)."""
    return (known[..., -1, :] - hidden[..., 0, :]).abs().mean(dim=(-2, -1))


def seam_colour_difference(known: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference (...) per column between the mean colours of the rows above and below the seam."""
    above, below = known[..., -SEAM_ROWS:, :].mean(dim=-2), hidden[..., :SEAM_ROWS, :].mean(dim=-2)
    return (above - below).abs().mean(dim=(-2, -1))


def spread(hidden: torch.Tensor) -> torch.Tensor:
    """Standard deviation (N,) of a pixel among completions (N, K, 3, h, w), root mean square over pixels."""
    return hidden.var(dim=1).mean(dim=(-3, -2, -1)).sqrt()
