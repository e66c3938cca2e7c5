"""A call checked before sampling: its arguments, and whether its scheduler works on the trained noise levels."""

import copy
import functools
import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, SchedulerMixin

from .image_io import OutputType

VISIBLE_NOISE = 0.02
"""Standard deviation, on the scale of [-1, 1], from which noise left in a sample can be seen."""
LARGEST_MISMATCH = 0.1
"""Relative difference between the noise that a scheduler gives the network and the trained one."""
LARGEST_LOSS = 0.03
"""Standard deviation that samples of data with 1 may lack, beside those of DDPM in as many steps."""
PROCESS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")


class _ExactCount(int):
    """A number of steps for which `np.arange(T, 0, -T / N)` ("trailing" spacing) has N elements in floating point."""

    def __rtruediv__(self, total: Any) -> float:
        return float(total / int(self) * (1 + 1e-9))


def prepare_scheduler(
    scheduler: SchedulerMixin,
    num_inference_steps: int,
    device: torch.device | str,
    checked: bool = False,
    trained: Mapping[str, Any] | None = None,
    distilled_steps: Sequence[int] | None = None,
) -> SchedulerMixin:
    """A copy of a scheduler with its timesteps set; schedulers hold state, and threads may share the original.

    Unless `checked`, a scheduler that does not fit the one the network was trained with (its configuration `trained`,
    or the scheduler's own) is refused by a ValueError; so is a number of steps that it cannot take, or that is not
    among those that the network was distilled for.
    """
    if not checked:
        trained = scheduler.config if trained is None else trained
        check_scheduler(scheduler, num_inference_steps, trained, distilled_steps)
    try:
        own = copy.deepcopy(scheduler)
        own.set_timesteps(num_inference_steps, device=device)
        if len(own.timesteps) and float(own.timesteps[-1]) < 0:  # a surplus step, for 62 of the counts up to 1000
            own = copy.deepcopy(scheduler)
            own.set_timesteps(_ExactCount(num_inference_steps), device=device)
    except Exception as error:
        name = type(scheduler).__name__
        raise ValueError(f"scheduler is {name}, which cannot take {num_inference_steps} steps: {error}") from error
    return own


def check_scheduler(
    scheduler: SchedulerMixin,
    num_inference_steps: int,
    trained: Mapping[str, Any],
    distilled_steps: Sequence[int] | None = None,
) -> None:
    """Raises ValueError, with the figures, for a scheduler that does not sample exactly with an exact denoiser.

    The denoiser knows that every pixel is 0.3, so that the noise in each of its inputs can be measured; or, unless the
    network was distilled, that pixels have variance 1, which the samples must have too.
    """
    if distilled_steps is not None and num_inference_steps not in distilled_steps:
        allowed = ", ".join(map(str, distilled_steps))
        raise ValueError(f"num_inference_steps is {num_inference_steps}; this model was distilled for {allowed} steps")
    name, own = type(scheduler).__name__, prepare_scheduler(scheduler, num_inference_steps, "cpu", checked=True)
    # RespacedDDPMScheduler places its levels off the trained ones on purpose, to reproduce what that does.
    if getattr(own, "off_trained_levels", False):
        return
    _check_timesteps(own, num_inference_steps, int(trained.get("num_train_timesteps", 1000)))
    try:
        found, expected, left = _sample_exact_denoiser(own, trained)
    except Exception as error:
        raise ValueError(f"scheduler is {name}, which cannot sample from this model: {error}") from error
    if isinstance(own, DDPMScheduler) and own.config.variance_type == "fixed_large":  # adds too much, as documented
        if left > VISIBLE_NOISE:
            warnings.warn(
                f"variance_type fixed_large leaves white noise of standard deviation {left:.2f} after "
                f"{num_inference_steps} steps; use more steps or variance_type fixed_small",
                stacklevel=4,
            )
        return
    excess = (np.abs(found - expected) - VISIBLE_NOISE / 2) / expected
    worst = int(np.argmax(np.where(np.isfinite(excess), excess, np.inf)))
    if not excess[worst] <= LARGEST_MISMATCH:
        raise ValueError(
            f"scheduler is {name}; at timestep {float(own.timesteps[worst]):g} it gives the network noise of standard "
            f"deviation {found[worst]:.3g}, and the network was trained with {expected[worst]:.3g}"
        )
    if not left <= VISIBLE_NOISE:
        raise ValueError(
            f"scheduler is {name}; with {num_inference_steps} steps it leaves an error of {left:.3g} in the samples "
            "of an exact denoiser"
        )
    if distilled_steps is None and "generator" in inspect.signature(scheduler.step).parameters:
        _check_deviation(scheduler, trained)


def _check_deviation(scheduler: SchedulerMixin, trained: Mapping[str, Any]) -> None:
    """Raises ValueError if the noise added in each step loses variance in the limit of many, as with LCM and TCD.

    They sample from consistency functions; ancestral sampling keeps the variance in the limit.
    """
    process = DDPMScheduler(
        **{name: trained[name] for name in PROCESS if name in trained}, timestep_spacing="trailing"
    )
    settings = json.dumps({name: trained[name] for name in (*PROCESS, "prediction_type") if name in trained})
    found, expected = (_deviation(type(each), each.to_json_string(), settings) for each in (scheduler, process))
    if not found >= expected - LARGEST_LOSS:
        raise ValueError(
            f"scheduler is {type(scheduler).__name__}; its samples of an exact denoiser have {found:.2f} times the "
            f"standard deviation of the data, those of DDPM {expected:.2f}: it needs a model distilled for it"
        )


@functools.lru_cache
def _deviation(scheduler_class: type[SchedulerMixin], config: str, trained: str) -> float:
    """Standard deviation of samples of data that have 1, in 50 steps and not clipped."""
    settings, process = json.loads(config), json.loads(trained)
    settings |= {name: False for name in ("clip_sample", "thresholding") if name in settings}
    settings["prediction_type"] = process.get("prediction_type", "epsilon")
    steps = min(50, max(1, settings["num_train_timesteps"] // 2))
    own = prepare_scheduler(scheduler_class.from_config(settings), steps, "cpu", checked=True)
    return _sample_exact_denoiser(own, process, 0.0, 1.0)[2]


def _check_timesteps(scheduler: SchedulerMixin, num_inference_steps: int, num_train_timesteps: int) -> None:
    """Raises ValueError unless the timesteps fall within [0, T - 1]; solvers of second order put others in between."""
    name, steps = type(scheduler).__name__, scheduler.timesteps.double().cpu()
    main = steps[::2] if len(steps) == 2 * num_inference_steps - 1 else steps
    within = len(steps) > 0 and float(steps.min()) >= 0 and float(steps.max()) <= num_train_timesteps - 1
    if not within or bool((main.diff() >= 0).any()):
        raise ValueError(
            f"num_inference_steps is {num_inference_steps}, for which the timesteps of {name} do not fall from "
            f"{num_train_timesteps - 1} to 0, each once; use other steps or another scheduler"
        )


def _sample_exact_denoiser(
    scheduler: SchedulerMixin, trained: Mapping[str, Any], mean: float = 0.3, variance: float = 0.0
) -> tuple[np.ndarray, np.ndarray, float]:
    """Deviation of each input of the network from the mean, that of the noise in it, and that of the samples."""
    process = DDPMScheduler(**{name: trained[name] for name in PROCESS if name in trained})
    abar = process.alphas_cumprod.double().numpy().clip(2**-24 if trained.get("rescale_betas_zero_snr") else 0)
    log_ratio = np.log((1 - abar) / abar) / 2
    ratios = np.exp(np.interp(scheduler.timesteps.double().cpu().numpy(), np.arange(len(abar)), log_ratio))
    signals = 1 / np.sqrt(1 + ratios**2)

    generator = torch.Generator().manual_seed(0)
    noise = torch.special.ndtri((torch.randperm(4096, generator=generator) + 0.5) / 4096).reshape(1, 1, 64, 64)
    arguments = step_arguments(scheduler, None, [generator])
    sample, found = noise * scheduler.init_noise_sigma, []
    for i, (t, signal, ratio) in enumerate(zip(scheduler.timesteps, signals.tolist(), ratios.tolist(), strict=True)):
        sigma = signal * ratio
        remaining = scheduler.scale_model_input(sample, t) - signal * mean
        found.append(float(remaining.square().mean().sqrt()))
        gain = remaining / (signal**2 * variance + sigma**2)
        noise, clean = sigma * gain, mean + signal * variance * gain
        predictions = {"epsilon": noise, "v_prediction": signal * noise - sigma * clean, "sample": clean}
        use_next_timestep(scheduler, i)
        prediction = predictions[trained.get("prediction_type", "epsilon")]
        sample = scheduler.step(prediction, t, sample, **arguments, return_dict=False)[0]
    return np.array(found), signals * ratios, float((sample - mean).square().mean().sqrt())


def step_arguments(
    scheduler: SchedulerMixin, eta: float | None, generators: Sequence[torch.Generator]
) -> dict[str, Any]:
    """What `scheduler.step` takes besides the prediction; the generators also seed a scheduler with its own noise."""
    if hasattr(scheduler, "noise_sampler_seed"):
        scheduler.noise_sampler_seed = [generator.initial_seed() for generator in generators]
    takes = inspect.signature(scheduler.step).parameters
    return ({} if eta is None else {"eta": eta}) | ({"generator": list(generators)} if "generator" in takes else {})


def check_call(
    scheduler: SchedulerMixin,
    num_completions: int,
    num_inference_steps: int,
    eta: float | None,
    batch_size: int | None,
    output_type: str,
) -> None:
    """Raises ValueError for the first argument of a pipeline's call that is out of range."""
    if num_completions < 1:
        raise ValueError(f"num_completions is {num_completions}; it must be at least 1")
    most = scheduler.config.num_train_timesteps
    if not 1 <= num_inference_steps <= most:
        raise ValueError(f"num_inference_steps is {num_inference_steps}; it must be from 1 to {most}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    if output_type not in get_args(OutputType):
        raise ValueError(f"output_type is {output_type!r}; it must be one of {', '.join(get_args(OutputType))}")
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
