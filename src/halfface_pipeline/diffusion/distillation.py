"""Distillation into a few evaluations: a denoiser becomes a sampler, trained by an energy score on what it samples.

Sampling alternates between an estimate of x_0 and fresh noise (Song et al. 2023, algorithm 1; `LCMScheduler`). Every
estimate on its way is trained to be a sample of p(x_0 | known half) by the energy score (Gneiting and Raftery 2007,
equation 22), a strictly proper scoring rule, by which De Bortoli et al. 2025 train denoisers.
"""

import inspect
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, LCMScheduler

from ..config.schema import DistillationConfig, ModelConfig
from ..remote_code.halves import predict, size_multiple, split
from .parameterization import noise_and_clean

MEMBERS = 2
"""Samples per image, the fewest whose distance can be compared with that to the truth."""
WINDOWS = (1, 5, 11)
"""Sides in pixels of the windows whose energy scores are added to that of the whole half."""
DETAIL = 3.0
"""Weight of the energy scores of what a 3x3 mean leaves, in which errors of noise and sharpness are largest."""


def saved_scheduler(trained: DDPMScheduler, distillation: DistillationConfig) -> DDPMScheduler | LCMScheduler:
    """The scheduler saved with a model: that of its training, unless it is distilled."""
    if distillation.teacher is None:
        return trained
    return distilled_scheduler(trained, distillation.num_steps)


def distilled_scheduler(trained: DDPMScheduler, num_steps: int) -> LCMScheduler:
    """A sampler whose timesteps, for any number of steps up to `num_steps`, are among those of `num_steps`."""
    known = inspect.signature(LCMScheduler.__init__).parameters
    shared = {name: value for name, value in trained.config.items() if name in known}
    return LCMScheduler(**shared | {"original_inference_steps": num_steps, "clip_sample": True})


def timesteps_of(scheduler: LCMScheduler, num_steps: int) -> list[int]:
    """The timesteps of so many steps, falling."""
    scheduler.set_timesteps(num_steps)
    return [int(t) for t in scheduler.timesteps]


def sampling_estimates(
    network: torch.nn.Module,
    scheduler: DDPMScheduler,
    model: ModelConfig,
    timesteps: Sequence[int],
    known: torch.Tensor,
    noise: torch.Tensor,
    shortcut: torch.Tensor,
) -> list[torch.Tensor]:
    """The estimates of x_0 that sampling makes at each timestep, without a gradient from one to the next.

    Args:
        network: The denoiser.
        scheduler: The noise schedule.
        model: The layout of the known half.
        timesteps: Falling, from the one of pure noise.
        known: Known halves in canonical orientation, (N, C, h, w) in [-1, 1].
        noise: Standard normal, (N, len(timesteps), C, h, w).
        shortcut: (N,) booleans: whether the third estimate comes from the first, as where every second timestep is
            left out.

    Returns:
        One (N, C, h, w) per timestep.
    """
    estimates: list[torch.Tensor] = []
    for level, t in enumerate(timesteps):
        noisy, at = noise[:, level], torch.full((len(known),), t, device=known.device)
        if level > 0:
            before = estimates[-1].detach()
            if level == 2:
                before = torch.where(shortcut[:, None, None, None], estimates[0].detach(), before)
            noisy = scheduler.add_noise(before.clamp(-1, 1), noisy, at)
        prediction = predict(network, noisy, known, at, model.known_layout, size_multiple(network)).float()
        estimates.append(noise_and_clean(scheduler, prediction, noisy, at)[1])
    return estimates


def distillation_loss(
    network: torch.nn.Module,
    scheduler: DDPMScheduler,
    model: ModelConfig,
    timesteps: Sequence[int],
    clean: torch.Tensor,
    drawn: torch.Tensor,
    noise: torch.Tensor,
) -> torch.Tensor:
    """The loss of one batch: the energy scores of the estimates at all timesteps.

    Args:
        network: The student.
        scheduler: The noise schedule.
        model: Which half is hidden, and the layout of the known one.
        timesteps: Those the student is sampled at, falling.
        clean: Whole images, (N, C, H, W) in [-1, 1].
        drawn: (N,) integers; the odd ones take the path that leaves out every second timestep.
        noise: Standard normal, (N, MEMBERS * len(timesteps) * C, h, w).

    Returns:
        A scalar.
    """
    known, hidden = split(clean, model.hidden_half)
    shape = (len(clean) * MEMBERS, len(timesteps), *hidden.shape[1:])
    estimates = sampling_estimates(
        network,
        scheduler,
        model,
        timesteps,
        known.repeat_interleave(MEMBERS, 0),
        noise.reshape(shape),
        (drawn % 2 == 1).repeat_interleave(MEMBERS),
    )
    scores = [energy_score(samples.unflatten(0, (-1, MEMBERS)), hidden) for samples in estimates]
    return torch.stack(scores).mean()


def energy_score(samples: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Unbiased energy score, E ||X - y|| - 1/2 E ||X - X'||, of the images, their windows and their details.

    Args:
        samples: Two samples per image, (N, 2, C, h, w).
        truth: (N, C, h, w).

    Returns:
        A scalar, lowest in expectation where the samples have the distribution of the truth.
    """
    first, second = samples.unbind(1)
    score = (_norms(first - truth) + _norms(second - truth) - _norms(first - second)) / 2
    details = [image - _local_mean(image) for image in (first - truth, second - truth, first - second)]
    detail_score = (_norms(details[0]) + _norms(details[1]) - _norms(details[2])) / 2
    return score + DETAIL * detail_score


def _local_mean(image: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def _norms(difference: torch.Tensor) -> torch.Tensor:
    """Mean root mean square over windows of each size and over the whole, (N, C, h, w) to a scalar."""
    squared = difference.square().mean(1, keepdim=True)
    sides = [min(side, *squared.shape[2:]) for side in WINDOWS]
    parts = [*(F.avg_pool2d(squared, side, stride=1) for side in sides), squared.mean((1, 2, 3))]
    # The root has no gradient at 0, where two samples are equal.
    return torch.stack([(part + 1e-8).sqrt().mean() for part in parts]).mean()
