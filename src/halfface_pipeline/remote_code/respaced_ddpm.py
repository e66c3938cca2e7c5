"""Ancestral sampling in fewer steps, as a scheduler of diffusers."""

from typing import ClassVar, Literal

import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_ddpm import DDPMSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor

from .respacing import (
    Matching,
    ReverseSteps,
    Spacing,
    Variance,
    exact_steps,
    shorter_linear_betas,
    shorter_linear_steps,
    subset,
    trained_alphas_cumprod,
    variance_share,
)


class RespacedDDPMScheduler(SchedulerMixin, ConfigMixin):
    """DDPM sampling (Ho et al. 2020, algorithm 2) over fewer steps than were trained.

    `timesteps` are on the trained scale, whole or fractional, so that it takes the place of the trained scheduler:
    `pipe.scheduler = RespacedDDPMScheduler.from_config(pipe.scheduler.config, respacing="shorter_linear")`.

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
        timestep_spacing: Levels that `exact` visits: `uniform`, `trailing`, `quadratic` or `log_snr`.
        timestep_matching: Trained timesteps for the levels of `shorter_linear`: `proportional` or `log_snr`.
        variance_type: sigma^2: `fixed_small` the posterior variance, `fixed_large` beta, or a number from 0 to 1 that
            mixes their logarithms.

    Raises:
        ValueError: If a name is unknown, or the report's schedule is asked of a process that is not linear.
    """

    order: ClassVar[int] = 1
    init_noise_sigma: ClassVar[float] = 1.0

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
        timestep_spacing: Spacing = "trailing",
        timestep_matching: Matching = "proportional",
        variance_type: Variance = "fixed_small",
    ) -> None:
        if respacing not in ("exact", "shorter_linear"):
            raise ValueError(f"respacing is {respacing!r}; it must be exact or shorter_linear")
        if prediction_type not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(f"prediction_type is {prediction_type!r}; it must be epsilon, v_prediction or sample")
        if respacing == "shorter_linear" and (beta_schedule != "linear" or rescale_betas_zero_snr):
            raise ValueError(
                f"respacing is 'shorter_linear' with beta_schedule {beta_schedule!r} and rescale_betas_zero_snr "
                f"{rescale_betas_zero_snr}; it must be 'exact' unless the trained betas are plainly linear"
            )
        variance_share(variance_type)
        self.alphas_cumprod = trained_alphas_cumprod(
            num_train_timesteps, beta_start, beta_end, beta_schedule, rescale_betas_zero_snr
        )
        self.set_timesteps(num_train_timesteps)

    def reverse_steps(self, num_inference_steps: int) -> ReverseSteps:
        """The steps that `set_timesteps` would take.

        Args:
            num_inference_steps: How many.

        Returns:
            Their coefficients, float64.

        Raises:
            ValueError: If the number, the spacing or the matching cannot be.
        """
        config = self.config
        if config.respacing == "exact":
            chosen = subset(config.timestep_spacing, num_inference_steps, self.alphas_cumprod)
            return exact_steps(chosen, self.alphas_cumprod)
        betas = shorter_linear_betas(
            num_inference_steps, config.num_train_timesteps, config.beta_start, config.beta_end
        )
        return shorter_linear_steps(betas, self.alphas_cumprod, config.timestep_matching)

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Chooses the steps of the next sample.

        Args:
            num_inference_steps: How many.
            device: Where `timesteps` lie.

        Raises:
            ValueError: If the number, the spacing or the matching cannot be.
        """
        self.steps = self.reverse_steps(num_inference_steps)
        self.variances = self.steps.variances(self.config.variance_type)
        self.num_inference_steps = num_inference_steps
        whole = bool((self.steps.timesteps == self.steps.timesteps.round()).all())
        self.timesteps = self.steps.timesteps.to(torch.long if whole else torch.float32).to(device)
        self.step_index = 0

    def scale_model_input(self, sample: torch.Tensor, timestep: torch.Tensor | int | None = None) -> torch.Tensor:
        """The sample as the network takes it: unchanged."""
        return sample

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
            timestep: The one the network was told. Steps are taken in the order of `timesteps`; it is not looked up,
                for two levels beyond the trained ones share theirs.
            sample: x_t.
            generator: Of the fresh noise: one, or one an image.
            return_dict: Give a `DDPMSchedulerOutput` and not a tuple.

        Returns:
            x_{t-1} and the predicted x_0.

        Raises:
            ValueError: If all steps have been taken.
        """
        i = self.step_index
        if i >= len(self.timesteps):
            raise ValueError(f"step was called more than {len(self.timesteps)} times; call set_timesteps first")
        abar = float(self.steps.alphas_cumprod[i])
        signal, noise = abar**0.5, (1 - abar) ** 0.5
        if self.config.prediction_type == "epsilon":
            clean = (sample - noise * model_output) / signal
        elif self.config.prediction_type == "v_prediction":
            clean = signal * sample - noise * model_output
        else:
            clean = model_output
        if self.config.clip_sample:
            clean = clean.clamp(-self.config.clip_sample_range, self.config.clip_sample_range)
        previous = float(self.steps.clean_weight()[i]) * clean + float(self.steps.noisy_weight()[i]) * sample
        if float(self.variances[i]) > 0:
            drawn = randn_tensor(sample.shape, generator=generator, device=sample.device, dtype=sample.dtype)
            previous = previous + float(self.variances[i]) ** 0.5 * drawn
        self.step_index += 1
        return DDPMSchedulerOutput(previous, clean) if return_dict else (previous, clean)

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps of the trained process (Ho et al. 2020, equation 4).

        Args:
            original_samples: x_0, (N, ...).
            noise: eps, of the same shape.
            timesteps: Whole zero-based trained timesteps, (N,).

        Returns:
            x_t.
        """
        abar = self.alphas_cumprod.to(timesteps.device)[timesteps].reshape(-1, *[1] * (original_samples.ndim - 1))
        abar = abar.to(original_samples)
        return abar.sqrt() * original_samples + (1 - abar).sqrt() * noise

    def __len__(self) -> int:
        return int(self.config.num_train_timesteps)
