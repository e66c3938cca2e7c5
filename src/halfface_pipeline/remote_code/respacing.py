"""Fewer reverse steps of the trained process: which noise levels they visit, and under which timestep the network is
asked there.

Two ways. The report's: a new linear schedule with T' = T / s steps, whose levels are not those the network was trained
on and have to be matched to trained timesteps. Exact re-spacing: a subset of the trained levels, whose betas follow
from them (Nichol and Dhariwal 2021, section 4). All coefficients are float64.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from diffusers.schedulers.scheduling_ddpm import betas_for_alpha_bar, rescale_zero_terminal_snr

Spacing = Literal["uniform", "trailing", "quadratic", "log_snr"]
Matching = Literal["proportional", "log_snr"]
Variance = Literal["fixed_small", "fixed_large"] | float


@dataclass(frozen=True)
class ReverseSteps:
    """Reverse steps in the order they are taken, each tensor (N,), float64.

    Attributes:
        timesteps: What the network is told, on the trained scale from 0 to T - 1, whole or fractional.
        betas: beta' of the step.
        alphas_cumprod: abar' before the step.
        previous: abar' after the step; 1 after the last.
    """

    timesteps: torch.Tensor
    betas: torch.Tensor
    alphas_cumprod: torch.Tensor
    previous: torch.Tensor

    def variances(self, variance: Variance) -> torch.Tensor:
        """sigma^2 of the noise added by each step, (N,); the last step adds none (Ho et al. 2020, algorithm 2).

        Args:
            variance: `fixed_large` is beta, `fixed_small` the posterior variance beta (1 - abar_prev) / (1 - abar)
                (Ho et al. 2020, section 3.2); a number v from 0 to 1 mixes their logarithms, 1 being beta (Nichol and
                Dhariwal 2021, equation 15).

        Returns:
            sigma^2.
        """
        share = variance_share(variance)
        posterior = self.betas * (1 - self.previous) / (1 - self.alphas_cumprod)
        mixed = self.betas**share * posterior ** (1 - share)
        return torch.where(self.previous < 1, mixed, torch.zeros(()).double())

    def clean_weight(self) -> torch.Tensor:
        """Weight of x_0 in the posterior mean (Ho et al. 2020, equation 7)."""
        return self.previous.sqrt() * self.betas / (1 - self.alphas_cumprod)

    def noisy_weight(self) -> torch.Tensor:
        """Weight of x_t in the posterior mean (Ho et al. 2020, equation 7)."""
        return (1 - self.betas).sqrt() * (1 - self.previous) / (1 - self.alphas_cumprod)


def variance_share(variance: Variance) -> float:
    """The share of log beta in log sigma^2: 0 for `fixed_small`, 1 for `fixed_large`.

    Args:
        variance: A name or a number.

    Returns:
        A number from 0 to 1.

    Raises:
        ValueError: If it is neither.
    """
    named = {"fixed_small": 0.0, "fixed_large": 1.0}
    number = named.get(variance) if isinstance(variance, str) else variance
    if not isinstance(number, int | float) or not 0 <= number <= 1:
        raise ValueError(f"variance_type is {variance!r}; it must be fixed_small, fixed_large or a number from 0 to 1")
    return float(number)


def trained_alphas_cumprod(
    num_train_timesteps: int,
    beta_start: float,
    beta_end: float,
    beta_schedule: str = "linear",
    rescale_betas_zero_snr: bool = False,
) -> torch.Tensor:
    """abar of the trained process, (T,), float64.

    Args:
        num_train_timesteps: T.
        beta_start: beta_1.
        beta_end: beta_T.
        beta_schedule: `linear`, `scaled_linear` or `squaredcos_cap_v2`, as in `DDPMScheduler`.
        rescale_betas_zero_snr: Leave no signal at T (Lin et al. 2024, algorithm 1).

    Returns:
        abar_1 ... abar_T.

    Raises:
        ValueError: If the schedule is unknown.
    """
    if beta_schedule == "linear":
        betas = torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float64)
    elif beta_schedule == "scaled_linear":
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps, dtype=torch.float64) ** 2
    elif beta_schedule == "squaredcos_cap_v2":
        betas = betas_for_alpha_bar(num_train_timesteps).double()
    else:
        raise ValueError(f"beta_schedule is {beta_schedule!r}; it must be linear, scaled_linear or squaredcos_cap_v2")
    if rescale_betas_zero_snr:
        betas = rescale_zero_terminal_snr(betas)
    return (1 - betas).cumprod(0)


def log_snr(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """log SNR = log(abar / (1 - abar)) in nats (Kingma et al. 2021)."""
    return torch.logit(alphas_cumprod)


def shorter_linear_betas(
    num_steps: int, num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> torch.Tensor:
    """The report's shorter schedule: linear, beta_1 kept and beta'_T' = beta_1 + (beta_T - beta_1) s, s = T / T'.

    Args:
        num_steps: T', a divisor of T.
        num_train_timesteps: T.
        beta_start: beta_1.
        beta_end: beta_T.

    Returns:
        beta'_1 ... beta'_T', float64.

    Raises:
        ValueError: If T' does not divide T, or the last beta would reach 1.
    """
    if not 1 <= num_steps <= num_train_timesteps or num_train_timesteps % num_steps:
        raise ValueError(
            f"num_inference_steps is {num_steps}; the shorter linear schedule needs a divisor of {num_train_timesteps}"
        )
    step_size = num_train_timesteps // num_steps
    last = beta_start + (beta_end - beta_start) * step_size
    if last >= 1:
        largest = (1 - beta_start) / (beta_end - beta_start)
        raise ValueError(
            f"num_inference_steps is {num_steps}, a step size of {step_size}; it must be below {largest:.1f}: the "
            f"last beta would be {last:.2f}, and at 1 or more a step would take away more than all of the signal"
        )
    return torch.linspace(beta_start, last, num_steps, dtype=torch.float64)


def shorter_linear_steps(betas: torch.Tensor, trained: torch.Tensor, matching: Matching) -> ReverseSteps:
    """The reverse steps of a shorter schedule with levels of its own.

    Args:
        betas: beta'_1 ... beta'_T'.
        trained: abar_1 ... abar_T of the trained process.
        matching: Which trained timestep stands for a level: `proportional` the one at the same fraction t'/T' = t/T
            of the way (the report), `log_snr` the one with the same noise, fractional.

    Returns:
        T' steps.

    Raises:
        ValueError: If the matching is unknown, or there is no signal at T to match.
    """
    alphas_cumprod = (1 - betas).cumprod(0)
    if matching == "proportional":
        step_size = len(trained) // len(betas)
        timesteps = torch.arange(1, len(betas) + 1, dtype=torch.float64) * step_size - 1
    elif matching == "log_snr":
        timesteps = timesteps_at(alphas_cumprod, trained)
    else:
        raise ValueError(f"timestep_matching is {matching!r}; it must be one of {', '.join(get_args(Matching))}")
    return _reversed(timesteps, betas, alphas_cumprod)


def exact_steps(timesteps: torch.Tensor, trained: torch.Tensor) -> ReverseSteps:
    """The reverse steps through a subset of the trained levels: beta'_i = 1 - abar(t_i) / abar(t_{i-1}).

    Args:
        timesteps: Zero-based trained timesteps in rising order.
        trained: abar_1 ... abar_T of the trained process.

    Returns:
        As many steps as timesteps.
    """
    alphas_cumprod = trained[timesteps]
    before = torch.cat([torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]])
    return _reversed(timesteps.double(), 1 - alphas_cumprod / before, alphas_cumprod)


def subset(spacing: Spacing, num_steps: int, trained: torch.Tensor) -> torch.Tensor:
    """Zero-based trained timesteps to visit, in rising order, the last one T - 1, all different.

    Args:
        spacing: `uniform` from 0 to T - 1, `trailing` whole strides back from T - 1 (Lin et al. 2024, table 2),
            `quadratic` closer together at little noise (Song et al. 2021, appendix D.2), `log_snr` even in log SNR.
        num_steps: How many, from 1 to T.
        trained: abar_1 ... abar_T of the trained process.

    Returns:
        (num_steps,) int64.

    Raises:
        ValueError: If the spacing is unknown, the number out of range, or there is no signal at T for `log_snr`.
    """
    total = len(trained)
    if not 1 <= num_steps <= total:
        raise ValueError(f"num_inference_steps is {num_steps}; it must be from 1 to {total}")
    places = torch.linspace(0, 1, num_steps, dtype=torch.float64) if num_steps > 1 else torch.ones(1).double()
    if spacing == "uniform":
        wanted = places * (total - 1)
    elif spacing == "trailing":
        wanted = torch.arange(1, num_steps + 1, dtype=torch.float64) * total / num_steps - 1
    elif spacing == "quadratic":
        wanted = places**2 * (total - 1)
    elif spacing == "log_snr":
        levels = log_snr(trained)
        wanted = timesteps_at(torch.sigmoid(levels[0] + places * (levels[-1] - levels[0])), trained)
    else:
        raise ValueError(f"timestep_spacing is {spacing!r}; it must be one of {', '.join(get_args(Spacing))}")
    chosen = wanted.round().long()
    index = torch.arange(num_steps)
    # Close together, two may round to the same timestep: push them apart, and back from the end where they pile up.
    apart = (chosen - index).cummax(0).values + index
    return torch.minimum(apart, total - num_steps + index)


def timesteps_at(alphas_cumprod: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
    """Fractional trained timesteps with given noise levels, linear in log SNR between two trained ones.

    Args:
        alphas_cumprod: abar' of the levels, (N,).
        trained: abar_1 ... abar_T of the trained process.

    Returns:
        (N,) from 0 to T - 1, float64; levels beyond the trained ones take the nearest.

    Raises:
        ValueError: If there is no signal at T, where the log SNR has no end.
    """
    if float(trained[-1]) <= 0:
        raise ValueError("rescale_betas_zero_snr is True; matching by log SNR needs some signal at the last timestep")
    falling, wanted = -log_snr(trained), -log_snr(alphas_cumprod)
    right = torch.searchsorted(falling, wanted).clamp(1, len(trained) - 1)
    left = right - 1
    share = (wanted - falling[left]) / (falling[right] - falling[left])
    return left + share.clamp(0, 1)


def mismatch(steps: ReverseSteps, trained: torch.Tensor) -> torch.Tensor:
    """How far the noise in the sample is from the noise the network is told about, in nats of log SNR.

    Args:
        steps: Reverse steps.
        trained: abar_1 ... abar_T of the trained process.

    Returns:
        (N,): positive where the sample is cleaner than the network believes.
    """
    low = steps.timesteps.floor().long().clamp(0, len(trained) - 2)
    told = torch.lerp(log_snr(trained)[low], log_snr(trained)[low + 1], steps.timesteps - low)
    return log_snr(steps.alphas_cumprod) - told


def _reversed(timesteps: torch.Tensor, betas: torch.Tensor, alphas_cumprod: torch.Tensor) -> ReverseSteps:
    before = torch.cat([torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]])
    return ReverseSteps(*(values.flip(0) for values in (timesteps, betas, alphas_cumprod, before)))
