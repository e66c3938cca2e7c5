"""Noise levels: the training scheduler and the samplers that can take its place."""

import inspect

import diffusers
import torch
from diffusers import DDPMScheduler, LCMScheduler, SchedulerMixin

from ..config.samplers import DISTILLED, SAMPLERS, PredictionType
from ..config.schema import NoiseConfig
from ..remote_code.noise_levels import check_scheduler, noise_schedule

FEW_STEP_SAMPLER, FEW_STEPS = "dpm++", 10
"""What completes as well as DDPM with all its steps, by the energy score (docs/performance.md)."""
THOROUGH = ("ddpm", 50)
"""What models are evaluated with."""


def training_scheduler(noise: NoiseConfig, prediction_type: PredictionType) -> DDPMScheduler:
    """The scheduler a model is trained under and saved with.

    `timestep_spacing` is explicit: left implicit, a sampler swapped in after saving and loading would start elsewhere.

    Args:
        noise: The forward process.
        prediction_type: What the network predicts.

    Returns:
        A scheduler whose images live in [-1, 1].
    """
    return DDPMScheduler(
        num_train_timesteps=noise.num_train_timesteps,
        beta_schedule=noise.beta_schedule,
        beta_start=noise.beta_start,
        beta_end=noise.beta_end,
        variance_type=noise.variance_type,
        rescale_betas_zero_snr=noise.rescale_betas_zero_snr,
        prediction_type=prediction_type,
        timestep_spacing="trailing",
    )


def few_steps(saved: SchedulerMixin) -> tuple[str, int]:
    """Sampler and number of steps to complete with where none is given, by the scheduler saved with the model."""
    return _distilled(saved) or (FEW_STEP_SAMPLER, FEW_STEPS)


def thorough(saved: SchedulerMixin) -> tuple[str, int]:
    """As `few_steps`, to evaluate with."""
    return _distilled(saved) or THOROUGH


def _distilled(saved: SchedulerMixin) -> tuple[str, int] | None:
    steps = distilled_steps(saved)
    return (DISTILLED, steps[-1]) if steps else None


def distilled_steps(saved: SchedulerMixin) -> list[int] | None:
    """Numbers of steps that a model was distilled for, by the scheduler saved with it; None if it was not."""
    return list(range(1, saved.config.original_inference_steps + 1)) if isinstance(saved, LCMScheduler) else None


def make_sampler(name: str, trained: SchedulerMixin) -> SchedulerMixin:
    """A sampler by its short name, with the trained scheduler's noise levels.

    Args:
        name: A key of `SAMPLERS`, or `lcm` for a distilled model.
        trained: The scheduler saved with the model.

    Returns:
        A scheduler to put in the pipeline's place of the trained one.

    Raises:
        ValueError: If the name is unknown, the sampler does not sample this kind of model, or what it needs is not
            installed.
    """
    if isinstance(trained, LCMScheduler):
        if name != DISTILLED:
            raise ValueError(f"scheduler is {name!r}; a distilled model is sampled by {DISTILLED} alone")
        return LCMScheduler.from_config(trained.config)
    if name == DISTILLED:
        raise ValueError(f"scheduler is {name!r}; it samples distilled models alone, and this model is not")
    if name not in SAMPLERS:
        raise ValueError(f"scheduler is {name!r}; it must be one of {', '.join(SAMPLERS)}")
    spec = SAMPLERS[name]
    if trained.config.prediction_type not in spec.predictions:
        raise ValueError(
            f"scheduler is {name!r}; a model that predicts the clean image needs another one, such as dpm++"
        )
    sampler_class = getattr(diffusers, spec.class_name)
    zero_snr = "rescale_betas_zero_snr"
    if trained.config.get(zero_snr) and zero_snr not in inspect.signature(sampler_class.__init__).parameters:
        raise ValueError(f"scheduler is {name!r}; a model trained with {zero_snr} needs another one, such as ddpm")
    try:
        return sampler_class.from_config(trained.config, **spec.kwargs)
    except ImportError as error:
        raise ValueError(f"scheduler {name!r} needs a package that is not installed: {error}") from error


def check_sampling(name: str, num_inference_steps: int, trained: SchedulerMixin) -> None:
    """Raises the errors that sampling would raise: of the sampler, of its packages, of its timesteps.

    Args:
        name: A key of `SAMPLERS`.
        num_inference_steps: Denoising steps.
        trained: The scheduler saved with the model.

    Raises:
        ValueError: If this sampler cannot be used with so many steps under the trained noise levels.
    """
    sampler = make_sampler(name, trained)
    check_scheduler(sampler, num_inference_steps, noise_schedule(trained), distilled_steps(trained))


def signal_to_noise(scheduler: DDPMScheduler, timesteps: torch.Tensor) -> torch.Tensor:
    """SNR(t) = abar_t / (1 - abar_t) (Kingma et al. 2021), one value a timestep."""
    abar = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    return abar / (1 - abar)
