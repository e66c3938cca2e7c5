"""Which schedulers work on the noise levels a network was trained on, and their timesteps."""

import copy
import inspect
import math
import warnings
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, SchedulerMixin

LARGEST_MISMATCH = 0.1
"""Between the logarithms of the noise-to-signal ratio that a scheduler assumes and the trained one."""
VISIBLE_NOISE = 0.02
"""Standard deviation of leftover noise, on the scale of [-1, 1], from which a warning is issued."""


def prepare_scheduler(
    scheduler: SchedulerMixin, num_inference_steps: int, device: torch.device | str, checked: bool = False
) -> SchedulerMixin:
    """A copy of a scheduler with its timesteps set; schedulers hold state, and threads may share the original.

    Args:
        scheduler: The pipeline's scheduler.
        num_inference_steps: Denoising steps.
        device: Device of the timesteps.
        checked: Skip the checks, for a further copy of the same call.

    Returns:
        The copy.

    Raises:
        ValueError: If the timesteps do not fall within [0, T - 1], or are not at the trained noise levels.
    """
    own = copy.deepcopy(scheduler)
    try:
        own.set_timesteps(num_inference_steps, device=device)
    except (ValueError, TypeError, AttributeError, IndexError, NotImplementedError) as error:
        raise ValueError(
            f"scheduler is {type(own).__name__}, which cannot take {num_inference_steps} steps: {error}"
        ) from error
    if isinstance(own, DDPMScheduler | DDIMScheduler) and len(own.timesteps) == num_inference_steps + 1:
        # For 62 of the counts up to 1000, the float range of "trailing" spacing has a surplus last element, -1.
        own.timesteps = own.timesteps[:num_inference_steps]
    # RespacedDDPMScheduler places its levels off the trained ones on purpose, to reproduce what that does.
    if not checked and not getattr(own, "off_trained_levels", False):
        check_timesteps(own, num_inference_steps)
        check_noise_levels(own, num_inference_steps)
        _warn_of_leftover_noise(own)
    return own


def check_timesteps(scheduler: SchedulerMixin, num_inference_steps: int) -> None:
    """Raises ValueError unless the timesteps fall within [0, T - 1] and are as many as asked for."""
    name, steps = type(scheduler).__name__, scheduler.timesteps.double().cpu()
    if len(steps) == 2 * num_inference_steps - 1:  # solvers of second order list intermediate timesteps in between
        steps = steps[::2]
    most = scheduler.config.num_train_timesteps - 1
    if len(steps) == 0 or float(steps.max()) > most or float(steps.min()) < 0 or bool((steps.diff() > 0).any()):
        raise ValueError(
            f"num_inference_steps is {num_inference_steps}, for which the timesteps of {name} do not fall from {most} "
            "to 0; use a count one smaller or larger, or another scheduler"
        )
    if len(torch.unique(steps)) < len(steps):
        raise ValueError(
            f"num_inference_steps is {num_inference_steps}, for which {name} repeats timesteps; use fewer steps"
        )


def check_noise_levels(scheduler: SchedulerMixin, num_inference_steps: int) -> None:
    """Raises ValueError if a scheduler assumes other noise levels at its timesteps than the network was trained on."""
    name = type(scheduler).__name__
    if not hasattr(scheduler, "scale_model_input") or not hasattr(scheduler, "init_noise_sigma"):
        raise ValueError(f"scheduler is {name}; it has no noise levels that a denoising network could use")
    assumed = assumed_log_ratio(scheduler)
    if assumed is None:
        raise ValueError(f"scheduler is {name}; its noise levels are unknown, use DDPMScheduler or another one")
    trained = np.interp(
        scheduler.timesteps.double().cpu().numpy(),
        np.arange(scheduler.config.num_train_timesteps),
        trained_log_ratio(scheduler.config),
    )
    steps = scheduler.timesteps
    if len(steps) == 2 * num_inference_steps - 1:
        steps, assumed, trained = steps[::2], assumed[::2], trained[::2]
    both = np.isfinite(assumed) & np.isfinite(trained)
    mismatch = np.abs(assumed - trained)[both]
    if len(mismatch) and float(mismatch.max()) > LARGEST_MISMATCH:
        worst = int(np.flatnonzero(both)[mismatch.argmax()])
        raise ValueError(
            f"scheduler is {name}; at timestep {float(steps[worst]):g} it assumes a noise-to-signal ratio "
            f"of {math.exp(assumed[worst]):.3g}, and the network was trained with {math.exp(trained[worst]):.3g}"
        )


def trained_log_ratio(config: Any) -> np.ndarray:
    """log sqrt((1 - abar_t) / abar_t), t = 0 .. T - 1, of the trained process that a configuration describes."""
    names = (
        "num_train_timesteps",
        "beta_start",
        "beta_end",
        "beta_schedule",
        "trained_betas",
        "rescale_betas_zero_snr",
    )
    process = DDPMScheduler(**{name: config[name] for name in names if name in config})
    return _log_ratio(process.alphas_cumprod)


def assumed_log_ratio(scheduler: SchedulerMixin) -> np.ndarray | None:
    """log of the noise-to-signal ratio that a scheduler assumes at each of its timesteps; None if it does not say."""
    steps = scheduler.timesteps.double().cpu()
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None and len(steps) <= len(sigmas) <= len(steps) + 2:
        with np.errstate(divide="ignore"):
            return np.log(torch.as_tensor(sigmas)[: len(steps)].double().cpu().numpy())
    abar = getattr(scheduler, "alphas_cumprod", None)
    if abar is None or bool((steps != steps.round()).any()):
        return None
    return _log_ratio(abar.cpu()[steps.long()])


def check_eta(scheduler: SchedulerMixin, eta: float | None) -> None:
    """Raises ValueError if eta is outside [0, 1] or the scheduler does not take it."""
    if eta is None:
        return
    if "eta" not in inspect.signature(scheduler.step).parameters:
        name = type(scheduler).__name__
        raise ValueError(f"eta is {eta}; {name} does not take it: leave it out, or use DDIMScheduler")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; it must be from 0 to 1")


def use_next_timestep(scheduler: SchedulerMixin, index: int) -> None:
    """Makes a DDIM step lead to the next timestep of the list; DDIMScheduler assumes t - T // N."""
    if isinstance(scheduler, DDIMScheduler):
        steps = scheduler.timesteps
        after = int(steps[index + 1]) if index + 1 < len(steps) else -1
        scheduler.num_inference_steps = 1
        scheduler.register_to_config(num_train_timesteps=int(steps[index]) - after)


def _warn_of_leftover_noise(scheduler: SchedulerMixin) -> None:
    """DDPM with the large variance adds noise in its last step too, unless that is at t = 0."""
    if isinstance(scheduler, DDPMScheduler) and str(scheduler.config.variance_type).startswith("fixed_large"):
        last = int(scheduler.timesteps[-1])
        left = float((1 - scheduler.alphas_cumprod[last]) ** 0.5) if last > 0 else 0.0
        if left > VISIBLE_NOISE:
            warnings.warn(
                f"variance_type fixed_large leaves white noise of standard deviation {left:.2f} after "
                f"{len(scheduler.timesteps)} steps; use more steps or variance_type fixed_small",
                stacklevel=4,
            )


def _log_ratio(abar: torch.Tensor) -> np.ndarray:
    with np.errstate(divide="ignore"):
        values: np.ndarray = np.log((1 - abar.double().numpy()) / abar.double().numpy()) / 2
    return values
