"""Distillation: a denoiser becomes a sampler of few evaluations.

Sampling alternates between an estimate of x_0 and fresh noise (Song et al. 2023, algorithm 1; `LCMScheduler`), and
the student is trained on the inputs that it meets there. Where they show next to nothing of x_0, the estimate must be
a sample of p(x_0 | known half): it is trained on the data by the energy score (Gneiting and Raftery 2007, equation
22), a strictly proper scoring rule, by which De Bortoli et al. 2025 train denoisers. Where they show more, it must be
what the teacher makes of them by its probability-flow ODE.
"""

import inspect
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, LCMScheduler

from ..config.schema import DistillationConfig, ModelConfig
from ..remote_code.halves import predict, size_multiple
from .halves import split
from .parameterization import noise_and_clean

MEMBERS = 2
"""Samples per image, the fewest whose distance can be compared with that to the truth."""
SEEN = 0.05
"""abar_t from which the teacher's solution is the target; below, its samples are compared with the data."""
SOLVER_STEPS = 4
"""Evaluations of the teacher per target, by DPM-Solver++ (Lu et al. 2022)."""
WINDOWS = (1, 5, 11)
"""Sides in pixels of the windows that are compared besides the whole half."""
DETAIL = 3.0
"""Weight of what a 3x3 mean leaves, in which errors of noise and sharpness are largest."""


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


def distillation_loss(
    network: torch.nn.Module,
    teacher: torch.nn.Module,
    scheduler: DDPMScheduler,
    model: ModelConfig,
    timesteps: Sequence[int],
    clean: torch.Tensor,
    drawn: torch.Tensor,
    noise: torch.Tensor,
) -> torch.Tensor:
    """The loss of one batch: the mean over the timesteps of how far the estimates are from what they should be.

    Args:
        network: The student.
        teacher: The denoiser that it began as.
        scheduler: The noise schedule of both.
        model: Which half is hidden, and the layout of the known one.
        timesteps: Those the student is sampled at, falling from that of pure noise.
        clean: Whole images, (N, C, H, W) in [-1, 1]. The later estimates, easier to learn, take half of them.
        drawn: (N,) integers; in the odd ones the third estimate follows the first, as in sampling with two steps.
        noise: Standard normal, (N, len(timesteps) * MEMBERS * C, h, w).

    Returns:
        A scalar.
    """
    known, hidden = split(clean, model.hidden_half)
    noise = noise.unflatten(1, (len(timesteps), MEMBERS, hidden.shape[1]))
    odd = (drawn % 2 == 1)[:, None, None, None, None]
    losses, estimates = [], list[torch.Tensor]()
    for level, t in enumerate(timesteps):
        members = MEMBERS if scheduler.alphas_cumprod[t] < SEEN else 1
        count = len(clean) if level == 0 else (len(clean) + 1) // 2
        noisy = noise[:count, level, :members].flatten(0, 1)
        at = torch.full((count * members,), t, device=noisy.device)
        if level > 0:
            before = estimates[-1][:count, :members]
            if level == 2:
                before = torch.where(odd[:count], estimates[0][:count, :members], before)
            noisy = scheduler.add_noise(before.flatten(0, 1).clamp(-1, 1), noisy, at)
        given = known[:count].repeat_interleave(members, 0)
        prediction = predict(network, noisy, given, at, model.known_layout, size_multiple(network)).float()
        estimate = noise_and_clean(scheduler, prediction, noisy, at)[1]
        if members == MEMBERS:
            losses.append(energy_score(estimate.unflatten(0, (count, members)), hidden[:count]))
        else:
            losses.append(distance(estimate, solution(teacher, scheduler, model, noisy, given, t)))
        estimates.append(estimate.detach().unflatten(0, (count, members)))
    return torch.stack(losses).mean()


@torch.no_grad()
def solution(
    teacher: torch.nn.Module,
    scheduler: DDPMScheduler,
    model: ModelConfig,
    noisy: torch.Tensor,
    known: torch.Tensor,
    timestep: int,
) -> torch.Tensor:
    """x_0 by the teacher's probability-flow ODE (Song et al. 2021, equation 13) from x_t = `noisy`, (N, C, h, w)."""
    solver = DPMSolverMultistepScheduler.from_config(scheduler.config)
    # Denser near the end: on faces the error is half of that of evenly spaced steps.
    shares = [(1 - step / SOLVER_STEPS) ** 2 for step in range(SOLVER_STEPS)]
    solver.set_timesteps(timesteps=[round(timestep * share) for share in shares])
    for t in solver.timesteps:
        prediction = predict(
            teacher, noisy, known, t.to(noisy.device), model.known_layout, size_multiple(teacher)
        ).float()
        noisy = solver.step(prediction, t, noisy, return_dict=False)[0]
    return noisy


def energy_score(samples: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Unbiased energy score, E ||X - y|| - 1/2 E ||X - X'||, of the images, their windows and their details.

    Args:
        samples: Two samples per image, (N, 2, C, h, w).
        truth: (N, C, h, w).

    Returns:
        A scalar, lowest in expectation where the samples have the distribution of the truth.
    """
    first, second = samples.unbind(1)
    return (distance(first, truth) + distance(second, truth) - distance(first, second)) / 2


def distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean distance of images (N, C, h, w), of their windows and of their details, a scalar."""
    difference = first - second
    return _norms(difference) + DETAIL * _norms(difference - _local_mean(difference))


def _local_mean(image: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def _norms(difference: torch.Tensor) -> torch.Tensor:
    """Mean root mean square over windows of each size and over the whole, (N, C, h, w) to a scalar."""
    squared = difference.square().mean(1, keepdim=True)
    sides = [min(side, *squared.shape[2:]) for side in WINDOWS]
    parts = [*(F.avg_pool2d(squared, side, stride=1) for side in sides), squared.mean((1, 2, 3))]
    # The root has no gradient at 0, where two samples are equal.
    return torch.stack([(part + 1e-8).sqrt().mean() for part in parts]).mean()
