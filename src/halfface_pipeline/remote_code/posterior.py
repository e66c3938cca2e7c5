"""Samplers of p(hidden | seen) under an unconditional diffusion model; none of them trains anything.

Symbols: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, x0hat(x_t) the network's estimate of E[x_0 | x_t], y the seen
pixels. Images are (N, C, H, W) in [-1, 1]; `hidden` is boolean and broadcasts to them. Every method returns x_0 and
lets the caller put y back, so that seen pixels are exact.
"""

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor

from .noise_levels import step

REPAINT_JUMP, REPAINT_RESAMPLINGS = 10, 10
"""Defaults of RePaint, those of the paper for 250 steps."""
PARTICLES = 8
ODE_STEPS = 3


@dataclass(frozen=True)
class Draw:
    """What a method returns.

    Attributes:
        clean: x_0, (N, C, H, W).
        effective_sample_size: Smallest over the steps, (N,), from 1 to the number of particles; None without any.
    """

    clean: torch.Tensor
    effective_sample_size: torch.Tensor | None = None


class Diffusion:
    """A network's reverse process over the timesteps of a scheduler; level i is its i-th timestep, level N clean.

    Args:
        predict: (x, timestep) to the network's prediction, of the kind that the scheduler's configuration names.
        scheduler: With its timesteps set; it holds the state of multistep solvers, so that it serves one draw.
        generators: One per image, or one that serves all.
        eta: Noise of a reverse step over that of DDPM's posterior (Song et al. 2021, DDIM, equation 16); None takes 1
            for DDPM and 0 for DDIM.
        on_evaluation: Called with the number of images after each call of the network.
    """

    def __init__(
        self,
        predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        scheduler: SchedulerMixin,
        generators: Sequence[torch.Generator],
        eta: float | None = None,
        on_evaluation: Callable[[int], Any] = lambda count: None,
    ) -> None:
        self.network, self.scheduler, self.generators = predict, scheduler, generators
        self.eta, self.on_evaluation = eta, on_evaluation
        self.num_steps = len(scheduler.timesteps)
        self.num_evaluations = 0
        if isinstance(scheduler, DDPMScheduler | DDIMScheduler):
            self.eta = eta if eta is not None else float(isinstance(scheduler, DDPMScheduler))
            self.abar = [*scheduler.alphas_cumprod[scheduler.timesteps.cpu()].tolist(), 1.0]

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        """Standard normal noise of a shape, as many images from each generator."""
        shape = (len(like) // len(self.generators), *like.shape[1:])
        return torch.cat([randn_tensor(shape, each, like.device, like.dtype) for each in self.generators])

    def uniform(self, count: int) -> torch.Tensor:
        """Numbers uniform in [0, 1), (count,), as many from each generator."""
        each = count // len(self.generators)
        return torch.cat([torch.rand(each, generator=g, device=g.device).cpu() for g in self.generators])

    def predict(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """The network's prediction, counted."""
        prediction = self.network(x, timestep)
        self.num_evaluations += len(x)
        self.on_evaluation(len(x))
        return prediction

    def clean(self, x: torch.Tensor, level: int, clip: bool = True) -> torch.Tensor:
        """x0hat(x_t) (Ho et al. 2020, equation 15; for v, Salimans and Ho 2022, appendix D)."""
        prediction = self.predict(x, self.scheduler.timesteps[level])
        abar, kind = self.abar[level], self.scheduler.config.prediction_type
        if kind == "epsilon":
            clean = (x - (1 - abar) ** 0.5 * prediction) / abar**0.5
        elif kind == "v_prediction":
            clean = abar**0.5 * x - (1 - abar) ** 0.5 * prediction
        else:
            clean = prediction
        return self.clip(clean) if clip else clean

    def clip(self, clean: torch.Tensor) -> torch.Tensor:
        """x0hat within the range of images where the scheduler clips it."""
        config = self.scheduler.config
        return clean.clamp(-config.clip_sample_range, config.clip_sample_range) if config.clip_sample else clean

    def reverse(
        self, x: torch.Tensor, clean: torch.Tensor, level: int, to: int | None = None, eta: float | None = None
    ) -> tuple[torch.Tensor, float]:
        """Mean and deviation of x_s given x_t and x0hat (Song et al. 2021, DDIM, equations 12 and 16).

        Args:
            x: x_t, (N, C, H, W).
            clean: x0hat.
            level: Of x.
            to: A later level; None takes the next.
            eta: 0 follows the ODE, 1 is the posterior of Ho et al. 2020, equation 7; None takes the process's own.

        Returns:
            The mean, (N, C, H, W), and the deviation.
        """
        abar, after = self.abar[level], self.abar[level + 1 if to is None else to]
        eta = self.eta if eta is None else eta
        sigma = float(eta) * ((1 - after) / (1 - abar) * (1 - abar / after)) ** 0.5  # type: ignore[arg-type]
        eps = (x - abar**0.5 * clean) / (1 - abar) ** 0.5
        return after**0.5 * clean + max(1 - after - sigma**2, 0.0) ** 0.5 * eps, sigma

    def reverse_step(self, x: torch.Tensor, clean: torch.Tensor, level: int) -> torch.Tensor:
        """x at the next level, from the law of `reverse`."""
        mean, sigma = self.reverse(x, clean, level)
        return mean + sigma * self.normal(x) if sigma else mean

    def forward(self, x: torch.Tensor, level: int, to: int) -> torch.Tensor:
        """q(x_t | x_s) from a level to a noisier one (Ho et al. 2020, equation 4, between any two levels)."""
        if to == self.num_steps:
            return x
        kept = self.abar[to] / self.abar[level]
        return kept**0.5 * x + (1 - kept) ** 0.5 * self.normal(x)


def replace(diffusion: Diffusion, start: torch.Tensor, seen: torch.Tensor, hidden: torch.Tensor) -> Draw:
    """Noises the seen pixels anew at each step (Song et al. 2021, score SDE); any scheduler.

    The conditional score of equation 14, approximated as in appendix I.2, whose equations have no numbers.

    Biased: what is generated follows the seen pixels only through their noise. With everything hidden it is plain
    sampling.
    """
    scheduler = diffusion.scheduler
    x = start * scheduler.init_noise_sigma
    for i, t in enumerate(scheduler.timesteps):
        x = torch.where(hidden, x, scheduler.add_noise(seen, diffusion.normal(x), t.reshape(1)))
        prediction = diffusion.predict(scheduler.scale_model_input(x, t), t)
        x = step(scheduler, i, prediction, x, diffusion.eta, diffusion.generators)
    return Draw(x)


def repaint(
    diffusion: Diffusion,
    start: torch.Tensor,
    seen: torch.Tensor,
    hidden: torch.Tensor,
    jump_length: int = REPAINT_JUMP,
    resamplings: int = REPAINT_RESAMPLINGS,
) -> Draw:
    """Replacement that goes back `jump_length` steps and repeats them (RePaint; Lugmayr et al. 2022, algorithm 1).

    Biased less than replacement; `evaluations` says what it costs.
    """
    x, level, total = start, 0, diffusion.num_steps
    repeats_left = dict.fromkeys(range(total, jump_length, -jump_length), resamplings - 1)
    while level < total:
        unknown = diffusion.reverse_step(x, diffusion.clean(x, level), level)  # equation 8b
        level += 1
        x = torch.where(hidden, unknown, diffusion.forward(seen, total, level))  # equations 8a and 8c
        if repeats_left.get(level, 0):
            repeats_left[level] -= 1
            x = diffusion.forward(x, level, level - jump_length)
            level -= jump_length
    return Draw(x)


def dps(
    diffusion: Diffusion, start: torch.Tensor, seen: torch.Tensor, hidden: torch.Tensor, guidance_scale: float = 1.0
) -> Draw:
    """Diffusion posterior sampling (Chung et al. 2023, algorithm 1), with a gradient of the network in each step.

    p(y | x_t) is approximated by p(y | x0hat) (equation 11), with x0hat of equation 10.
    """
    x = start
    for level in range(diffusion.num_steps):
        clean, error, gradient = _guided(diffusion, x, level, seen, hidden)
        zeta = guidance_scale / _broadcast(error.sqrt().clamp(min=1e-12), x)  # zeta' / |y - x0hat|
        x = diffusion.reverse_step(x, clean, level) + zeta * gradient  # equation 16
    return Draw(x)


def pigdm(diffusion: Diffusion, start: torch.Tensor, seen: torch.Tensor, hidden: torch.Tensor) -> Draw:
    """Pseudoinverse-guided diffusion (Song et al. 2023, algorithm 1, without measurement noise: equation 8)."""
    x = start
    for level in range(diffusion.num_steps):
        # The pseudoinverse of a mask is the mask; r_t^2 = 1 - abar_t cancels against the weight of the guidance.
        clean, _, gradient = _guided(diffusion, x, level, seen, hidden)
        x = diffusion.reverse_step(x, clean, level) + diffusion.abar[level] ** 0.5 * gradient
    return Draw(x)


def tds(
    diffusion: Diffusion, start: torch.Tensor, seen: torch.Tensor, hidden: torch.Tensor, num_particles: int = PARTICLES
) -> Draw:
    """Twisted diffusion sampler (Wu et al. 2023, algorithm 1): exact in the limit of many particles.

    The twisting function is ptilde(y | x_t) = N(y; x0hat(x_t), 1 - abar_t) over the seen pixels (equation 13). Each
    completion has particles of its own and costs N times `num_particles` evaluations and gradients for N steps.
    """
    count, total = len(start), diffusion.num_steps
    particles = start[:, None]
    if num_particles > 1:
        others = diffusion.normal(start.repeat_interleave(num_particles - 1, 0))
        particles = torch.cat([particles, others.unflatten(0, (count, -1))], dim=1)
    x = particles.flatten(0, 1)
    seen, hidden = (
        part.repeat_interleave(num_particles, 0) if len(part) == count else part for part in (seen, hidden)
    )
    log_weights = torch.zeros(count, num_particles)
    smallest = torch.full((count,), float(num_particles))
    before = torch.zeros(count, num_particles)
    correction = torch.zeros(count, num_particles)
    for level in range(total):
        variance = 1 - diffusion.abar[level]
        clean, error, gradient = _guided(diffusion, x, level, seen, hidden)
        twist = -error.cpu().unflatten(0, (count, num_particles)) / (2 * variance)  # log ptilde(y | x_t)
        log_weights = (log_weights + twist - before + correction).log_softmax(1)  # equation 11
        effective = 1 / log_weights.exp().square().sum(1)
        smallest = torch.minimum(smallest, effective)
        if level == total - 1:
            break
        chosen = torch.arange(num_particles).repeat(count, 1)
        low = effective < num_particles / 2
        uniform = diffusion.uniform(count)
        chosen[low] = systematic_resampling(log_weights[low].exp(), uniform[low])
        log_weights[low] = 0.0
        before = twist.gather(1, chosen)
        rows = (chosen + num_particles * torch.arange(count)[:, None]).flatten().to(x.device)
        x, clean, gradient = x[rows], clean[rows], gradient[rows]
        mean, sigma = diffusion.reverse(x, clean, level)
        # The proposal N(mean + sigma shift, sigma^2) of equations 9 and 10, and log p over it at what is sampled.
        shift, noise = sigma / variance * gradient, diffusion.normal(x)
        x = mean + sigma * (shift + noise)
        ratio = -(shift * noise + shift.square() / 2).flatten(1).sum(1)
        correction = ratio.cpu().unflatten(0, (count, num_particles))
    one = torch.searchsorted(log_weights.exp().cumsum(1), diffusion.uniform(count)[:, None], right=True)
    rows = (one.clamp(max=num_particles - 1) + num_particles * torch.arange(count)[:, None]).flatten()
    return Draw(clean[rows.to(clean.device)], smallest)


def daps(
    diffusion: Diffusion, start: torch.Tensor, seen: torch.Tensor, hidden: torch.Tensor, ode_steps: int = ODE_STEPS
) -> Draw:
    """Decoupled annealing posterior sampling (Zhang et al. 2025, algorithm 1); no gradient of the network.

    For a mask, the stationary law of its Langevin dynamics on x_0 (equations 6 and 7) is Gaussian and sampled
    directly: y where seen, N(x0hat, r_t^2) where hidden. r_t is half of sqrt(1 - abar_t): x0hat, from the ODE, varies
    as a sample does. Costs up to `ode_steps` evaluations per step.
    """
    x, total = start, diffusion.num_steps
    for level in range(total):
        path = torch.linspace(level, total, min(ode_steps, total - level) + 1).round().int().tolist()
        clean = x
        for here, there in itertools.pairwise(path):  # the probability flow ODE from x_t to x0hat
            clean = diffusion.reverse(clean, diffusion.clean(clean, here), here, there, eta=0.0)[0]
        deviation = (1 - diffusion.abar[level]) ** 0.5 / 2 if level + 1 < total else 0.0
        clean = torch.where(hidden, clean + deviation * diffusion.normal(x), seen)
        x = diffusion.forward(clean, total, level + 1)  # proposition 1
    return Draw(x)


METHODS: dict[str, Callable[..., Draw]] = {
    "replace": replace,
    "repaint": repaint,
    "dps": dps,
    "pigdm": pigdm,
    "tds": tds,
    "daps": daps,
}
DEFAULT_METHOD = "pigdm"
LEAST = {"jump_length": 1, "resamplings": 1, "guidance_scale": 0, "num_particles": 1, "ode_steps": 1}
"""The smallest value of each option."""


def check_method(
    method: str, scheduler: SchedulerMixin, num_steps: int, eta: float | None, options: dict[str, Any]
) -> None:
    """Checks before any work that a method can be run.

    Args:
        method: A key of `METHODS`.
        scheduler: The pipeline's scheduler.
        num_steps: Denoising steps.
        eta: As in `Diffusion`.
        options: Further arguments of the method.

    Raises:
        ValueError: If the method or an option is unknown, an option is out of range, or the scheduler does not fit.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")
    taken = list(inspect.signature(METHODS[method]).parameters)[4:]
    for name, value in options.items():
        if name not in taken:
            raise ValueError(f"{name} is {value!r}; method {method!r} takes {', '.join(taken) or 'no options'}")
        whole = name != "guidance_scale"
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or value < LEAST[name]:
            kind = "a whole number" if whole else "a number"
            raise ValueError(f"{name} is {value!r}; it must be {kind} from {LEAST[name]} on")
    if method != "replace" and not isinstance(scheduler, DDPMScheduler | DDIMScheduler):
        raise ValueError(
            f"scheduler is {type(scheduler).__name__}; method {method!r} needs the steps of DDPMScheduler or "
            "DDIMScheduler, or take method 'replace'"
        )
    jump = options.get("jump_length", REPAINT_JUMP)
    if method == "repaint" and jump >= num_steps > 1:
        raise ValueError(f"jump_length is {jump}; it must be below num_inference_steps, {num_steps}")
    if method == "tds" and isinstance(scheduler, DDIMScheduler) and not eta:
        raise ValueError(f"eta is {eta}; method 'tds' needs noise in each step: eta above 0, or DDPMScheduler")


def evaluations(method: str, num_steps: int, options: dict[str, Any]) -> int:
    """Evaluations of the network per image for a method, checked by `check_method`, in N steps."""
    if method == "repaint":
        jump = options.get("jump_length", REPAINT_JUMP)
        return num_steps + (options.get("resamplings", REPAINT_RESAMPLINGS) - 1) * jump * ((num_steps - 1) // jump)
    if method == "daps":
        return sum(min(options.get("ode_steps", ODE_STEPS), left) for left in range(1, num_steps + 1))
    return num_steps * (options.get("num_particles", PARTICLES) if method == "tds" else 1)


def systematic_resampling(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Ancestors of K particles, each about K times its weight often (Douc and Cappe 2005, section 2.4).

    Args:
        weights: (N, K), each row summing to 1.
        uniform: (N,) in [0, 1).

    Returns:
        (N, K) indices from 0 to K - 1, rising.
    """
    number = weights.shape[1]
    places = (torch.arange(number) + uniform[:, None]) / number
    return torch.searchsorted(weights.cumsum(1), places, right=True).clamp(max=number - 1)


def _guided(
    diffusion: Diffusion, x: torch.Tensor, level: int, seen: torch.Tensor, hidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x0hat (clipped), |y - x0hat|^2 over seen pixels (N,), and minus half its gradient by x_t."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        clean = diffusion.clean(x, level, clip=False)
        error = torch.where(hidden, 0.0, seen - clean).square().flatten(1).sum(1)
        (gradient,) = torch.autograd.grad(-error.sum() / 2, x)
    return diffusion.clip(clean.detach()), error.detach(), gradient


def _broadcast(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
