"""Ancestral sampling in fewer steps than were trained, as a scheduler of diffusers.

Two ways. The report's: a new linear schedule with T' = T / s steps, whose noise levels are not those the network was
trained on and have to be matched to trained timesteps. Exact re-spacing: a subset of the trained levels, whose betas
follow from them (Nichol and Dhariwal 2021, section 4).
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from diffusers import DDPMScheduler, SchedulerMixin  # noqa: F401  diffusers looks SchedulerMixin up in this module
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_ddpm import DDPMSchedulerOutput

Matching = Literal["proportional", "log_snr"]
Variance = Literal["fixed_small", "fixed_large"]


@dataclass(frozen=True)
class ReverseSteps:
    """Reverse steps, the noisiest first, each tensor (N,), float64.

    Attributes:
        timesteps: Input of the network, on the trained scale from 0 to T - 1, whole or fractional.
        betas: beta' of the step.
        alphas_cumprod: abar' before the step.
    """

    timesteps: torch.Tensor
    betas: torch.Tensor
    alphas_cumprod: torch.Tensor


class RespacedDDPMScheduler(DDPMScheduler):
    """DDPM sampling (Ho et al. 2020, algorithm 2) over fewer steps than were trained.

    `timesteps` are on the trained scale, whole or fractional, so that it takes the place of the trained scheduler:
    `pipe.scheduler = RespacedDDPMScheduler.from_config(pipe.scheduler.config, respacing="shorter_linear")`. The steps
    themselves are those of a `DDPMScheduler` with the betas of the shorter process.

    Args:
        num_train_timesteps: T of the trained process.
        beta_start: beta_1 of the trained process.
        beta_end: beta_T of the trained process.
        beta_schedule: Shape of beta over t: `linear`, `scaled_linear` or `squaredcos_cap_v2`.
        rescale_betas_zero_snr: Whether the trained process leaves no signal at T (Lin et al. 2024).
        prediction_type: What the network predicts: `epsilon`, `v_prediction` or `sample`.
        clip_sample: Clip the predicted clean image.
        clip_sample_range: To plus and minus this.
        respacing: `exact` visits trained levels; `shorter_linear` is the report's schedule of T' = T / s steps.
        timestep_spacing: `trailing`: `exact` visits whole strides back from T - 1 (Lin et al. 2024, table 2).
        timestep_matching: Trained timesteps for the levels of `shorter_linear`: `proportional`, the one at the same
            fraction t'/T' = t/T (the report), or `log_snr`, the one with the same noise, fractional.
        variance_type: sigma^2 of the added noise: `fixed_small` the posterior variance, `fixed_large` beta.

    Raises:
        ValueError: If a name is unknown, or `shorter_linear` is combined with a process that is not linear.
    """

    off_trained_levels = True
    """Tells the pipeline not to compare this scheduler's noise levels with the trained ones."""

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        rescale_betas_zero_snr: bool = False,
        prediction_type: str = "epsilon",
        clip_sample: bool = True,
        clip_sample_range: float = 1.0,
        respacing: Literal["exact", "shorter_linear"] = "exact",
        timestep_spacing: Literal["trailing"] = "trailing",
        timestep_matching: Matching = "proportional",
        variance_type: Variance = "fixed_small",
    ) -> None:
        for name, value, allowed in (
            ("respacing", respacing, ("exact", "shorter_linear")),
            ("timestep_spacing", timestep_spacing, ("trailing",)),
            ("timestep_matching", timestep_matching, get_args(Matching)),
            ("variance_type", variance_type, get_args(Variance)),
            ("beta_schedule", beta_schedule, ("linear", "scaled_linear", "squaredcos_cap_v2")),
            ("prediction_type", prediction_type, ("epsilon", "v_prediction", "sample")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; it must be {' or '.join(allowed)}")
        if respacing == "shorter_linear" and (beta_schedule != "linear" or rescale_betas_zero_snr):
            raise ValueError(
                f"respacing is 'shorter_linear' with beta_schedule {beta_schedule!r} and rescale_betas_zero_snr "
                f"{rescale_betas_zero_snr}; it must be 'exact' unless the trained betas are linear"
            )
        self.process_settings: dict[str, Any] = {
            "prediction_type": prediction_type,
            "variance_type": variance_type,
            "clip_sample": clip_sample,
            "clip_sample_range": clip_sample_range,
        }
        super().__init__(
            num_train_timesteps=num_train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            beta_schedule=beta_schedule,
            rescale_betas_zero_snr=rescale_betas_zero_snr,
            timestep_spacing=timestep_spacing,
            **self.process_settings,
        )
        self.set_timesteps(num_train_timesteps)

    @property
    def trained_alphas_cumprod(self) -> torch.Tensor:
        """abar_1 ... abar_T of the trained process, float64."""
        config, betas = self.config, self.betas.double()
        if config.beta_schedule == "linear" and not config.rescale_betas_zero_snr:  # without float32's rounding
            betas = torch.linspace(config.beta_start, config.beta_end, len(betas), dtype=torch.float64)
        return (1 - betas).cumprod(0)

    def reverse_steps(self, num_inference_steps: int) -> ReverseSteps:
        """The steps that `set_timesteps` would choose; ValueError if there cannot be so many."""
        total, trained = int(self.config.num_train_timesteps), self.trained_alphas_cumprod
        if not 1 <= num_inference_steps <= total:
            raise ValueError(f"num_inference_steps is {num_inference_steps}; it must be from 1 to {total}")
        timesteps = torch.arange(1, num_inference_steps + 1, dtype=torch.float64) * total / num_inference_steps - 1
        if self.config.respacing == "exact":
            timesteps = timesteps.round()
            abar = trained[timesteps.long()]
            betas = 1 - abar / torch.cat([torch.ones(1, dtype=torch.float64), abar[:-1]])
        else:
            betas = shorter_linear_betas(num_inference_steps, total, self.config.beta_start, self.config.beta_end)
            abar = (1 - betas).cumprod(0)
            if self.config.timestep_matching == "log_snr":
                timesteps = timesteps_at(abar, trained)
        return ReverseSteps(timesteps.flip(0), betas.flip(0), abar.flip(0))

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Chooses the steps of the next sample.

        Args:
            num_inference_steps: How many.
            device: Device of `timesteps`.

        Raises:
            ValueError: If there cannot be so many.
        """
        self.steps = self.reverse_steps(num_inference_steps)
        betas = self.steps.betas.flip(0).tolist()
        self.process = DDPMScheduler(len(betas), trained_betas=betas, **self.process_settings)
        self.num_inference_steps = num_inference_steps
        whole = bool((self.steps.timesteps == self.steps.timesteps.round()).all())
        self.timesteps = self.steps.timesteps.to(torch.long if whole else torch.float32).to(device)
        self.step_index = 0

    def step(
        self,
        model_output: torch.Tensor,
        timestep: torch.Tensor | float,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> DDPMSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """x_{t-1} from x_t and the network's prediction (Ho et al. 2020, equations 6, 7 and 11).

        Args:
            model_output: The prediction, of the sample's shape.
            timestep: Ignored: steps are taken in the order of `timesteps`, as two levels beyond the trained ones share
                theirs.
            sample: x_t.
            generator: Of the fresh noise: one, or one per image.
            return_dict: Return a `DDPMSchedulerOutput` instead of a tuple.

        Returns:
            x_{t-1} and the predicted x_0.

        Raises:
            ValueError: If all steps have been taken.
        """
        remaining = len(self.timesteps) - self.step_index
        if remaining == 0:
            raise ValueError(f"step was called more than {len(self.timesteps)} times; call set_timesteps first")
        self.step_index += 1
        return self.process.step(model_output, remaining - 1, sample, generator, return_dict)


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
            f"last beta would be {last:.2f}, and at 1 or more a step would remove more than all of the signal"
        )
    return torch.linspace(beta_start, last, num_steps, dtype=torch.float64)


def timesteps_at(alphas_cumprod: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
    """Fractional trained timesteps with given noise levels, linear in log SNR; clamped to [0, T - 1]."""
    falling, levels = -torch.logit(trained), -torch.logit(alphas_cumprod)
    right = torch.searchsorted(falling, levels).clamp(1, len(trained) - 1)
    left = right - 1
    share = (levels - falling[left]) / (falling[right] - falling[left])
    return left + share.clamp(0, 1)
