"""A call of a pipeline: its arguments, random numbers, and scheduler, compared with the trained noise levels."""

import copy
import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor

from .image_io import OutputType

Generators = torch.Generator | Sequence[torch.Generator] | None
VISIBLE_NOISE = 0.02
"""Standard deviation, on the scale of [-1, 1], from which noise left in a sample can be seen."""
LARGEST_MISMATCH = 0.1
"""Relative difference between the noise that a scheduler gives the network and the trained one."""
PROCESS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")


class _ExactCount(int):
    """A number of steps for which `np.arange(T, 0, -T / N)` ("trailing" spacing) has N elements in floating point."""

    def __rtruediv__(self, total: Any) -> float:
        return float(total / int(self) * (1 + 1e-9))


def noise_schedule(scheduler: SchedulerMixin) -> dict[str, Any]:
    """What a pipeline keeps of the scheduler that its network was trained with."""
    return {name: scheduler.config[name] for name in (*PROCESS, "prediction_type") if name in scheduler.config}


def prepare_scheduler(scheduler: SchedulerMixin, num_inference_steps: int, device: torch.device | str) -> Any:
    """A copy of a scheduler with its timesteps set, as schedulers hold state; ValueError if it cannot take so many."""
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
    scheduler: SchedulerMixin, num_inference_steps: int, trained: Mapping[str, Any], distilled_steps: Any = None
) -> None:
    """Raises ValueError, with the figures, for a scheduler that does not sample exactly with an exact denoiser.

    The denoiser knows that every pixel is 0.3, so that the noise in each of its inputs can be measured. `trained` is
    the `noise_schedule` of the network, `distilled_steps` the numbers of steps that it was distilled for.
    """
    if distilled_steps is not None and num_inference_steps not in distilled_steps:
        allowed = ", ".join(map(str, distilled_steps))
        raise ValueError(f"num_inference_steps is {num_inference_steps}; this model was distilled for {allowed} steps")
    own, name = prepare_scheduler(scheduler, num_inference_steps, "cpu"), type(scheduler).__name__
    # RespacedDDPMScheduler places its levels off the trained ones on purpose, to reproduce what that does.
    if getattr(own, "off_trained_levels", False):
        return
    timesteps, main = own.timesteps, slice(None, None, 2 if len(own.timesteps) == 2 * num_inference_steps - 1 else 1)
    if not len(timesteps) or bool((timesteps[main].diff() >= 0).any()):
        raise ValueError(
            f"num_inference_steps is {num_inference_steps}, for which the timesteps of {name} do not fall, each once; "
            "use other steps or another scheduler"
        )
    try:
        noise, expected, ratios, left = _sample_exact_denoiser(own, trained)
    except Exception as error:
        raise ValueError(f"scheduler is {name}, which cannot sample from this model: {error}") from error
    if isinstance(own, DDPMScheduler) and own.config.variance_type == "fixed_large":  # adds too much, as documented
        if left > VISIBLE_NOISE:
            after = f"after {num_inference_steps} steps; use more steps or variance_type fixed_small"
            text = f"variance_type fixed_large leaves white noise of standard deviation {left:.2f} {after}"
            warnings.warn(text, stacklevel=4)
        return
    found = np.sqrt(np.square(noise).mean(1))
    excess = (np.abs(found - expected) - VISIBLE_NOISE / 2) / expected
    worst, fault = int(np.argmax(np.where(np.isfinite(excess), excess, np.inf))), None
    unit, share = (noise / found[:, None])[main], ratios[main][1:] / ratios[main][:-1]
    kept = (unit[1:] * unit[:-1]).mean(1)
    lost = np.append((share - kept) * expected[main][1:], 0)
    if not excess[worst] <= LARGEST_MISMATCH:
        fault = (
            f"at timestep {float(timesteps[worst]):g} it gives the network noise of standard deviation "
            f"{found[worst]:.3g}, and the network was trained with {expected[worst]:.3g}"
        )
    elif not left <= VISIBLE_NOISE:
        fault = f"with {num_inference_steps} steps it leaves an error of {left:.3g} in samples of an exact denoiser"
    elif distilled_steps is None and lost.max() > LARGEST_MISMATCH:
        i = int(lost.argmax())  # noise that LCM and TCD renew, so that samples of a denoiser lose variance
        fault = (
            f"after timestep {float(timesteps[main][i]):g} it keeps {kept[i]:.2f} of the noise, and DDPM "
            f"{share[i]:.2f}: it needs a model distilled for it"
        )
    if fault is not None:
        raise ValueError(f"scheduler is {name}; {fault}")


def _sample_exact_denoiser(
    scheduler: SchedulerMixin, trained: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Noise in each input of the network, its trained deviation and ratio to the signal, and the final error."""
    process, value = DDPMScheduler(**trained), 0.3
    abar = process.alphas_cumprod.double().numpy().clip(2**-24 if trained.get("rescale_betas_zero_snr") else 0)
    log_ratio, steps = np.log((1 - abar) / abar) / 2, scheduler.timesteps.double().numpy()
    ratios = np.exp(np.interp(steps, np.arange(len(abar)), log_ratio, left=np.nan, right=np.nan))
    signals = 1 / np.sqrt(1 + ratios**2)

    generator = torch.Generator().manual_seed(0)
    normal = torch.special.ndtri((torch.randperm(4096, generator=generator) + 0.5) / 4096).reshape(1, 1, 64, 64)
    sample, noise = normal * scheduler.init_noise_sigma, []
    for i, (t, signal, ratio) in enumerate(zip(scheduler.timesteps, signals.tolist(), ratios.tolist(), strict=True)):
        sigma = signal * ratio
        noise.append(scheduler.scale_model_input(sample, t) - signal * value)
        predictions = {
            "epsilon": noise[-1] / sigma,
            "v_prediction": signal * noise[-1] / sigma - sigma * value,
            "sample": torch.full_like(sample, value),
        }
        sample = step(scheduler, i, predictions[process.config.prediction_type], sample, None, [generator])
    left = float((sample - value).square().mean().sqrt())
    return torch.cat(noise).flatten(1).double().numpy(), signals * ratios, ratios, left


def step(
    scheduler: Any, index: int, prediction: torch.Tensor, sample: torch.Tensor, eta: Any, generators: Sequence[Any]
) -> torch.Tensor:
    """The sample at the next timestep of the list; the generators also seed a scheduler with noise of its own."""
    timesteps, takes = scheduler.timesteps, inspect.signature(scheduler.step).parameters
    options = {"eta": eta, "generator": list(generators)}
    options = {name: value for name, value in options.items() if name in takes and value is not None}
    if hasattr(scheduler, "noise_sampler_seed"):
        scheduler.noise_sampler_seed = [generator.initial_seed() for generator in generators]
    if isinstance(scheduler, DDIMScheduler):  # which assumes that the next one is t - T // N
        following = int(timesteps[index + 1]) if index + 1 < len(timesteps) else -1
        scheduler.num_inference_steps = 1
        scheduler.register_to_config(num_train_timesteps=int(timesteps[index]) - following)
    return scheduler.step(prediction, timesteps[index], sample, **options, return_dict=False)[0]


def check_call(
    pipe: Any,
    num_completions: int,
    num_inference_steps: int,
    eta: float | None,
    batch_size: int | None,
    output_type: str,
) -> None:
    """Raises ValueError for the first argument of a pipeline's call that is out of range, or its scheduler."""
    for name, value in (("num_completions", num_completions), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    most = pipe.scheduler.config.num_train_timesteps
    if not 1 <= num_inference_steps <= most:
        raise ValueError(f"num_inference_steps is {num_inference_steps}; it must be from 1 to {most}")
    if output_type not in get_args(OutputType):
        raise ValueError(f"output_type is {output_type!r}; it must be one of {', '.join(get_args(OutputType))}")
    if eta is not None and "eta" not in inspect.signature(pipe.scheduler.step).parameters:
        name = type(pipe.scheduler).__name__
        raise ValueError(f"eta is {eta}; {name} does not take it: leave it out, or use DDIMScheduler")
    if eta is not None and not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; it must be from 0 to 1")
    trained, distilled_steps = pipe.config.trained_noise, pipe.config.get("distilled_steps")
    check_scheduler(pipe.scheduler, num_inference_steps, trained, distilled_steps)


def initial_noise(
    generator: Generators, inputs: int, shape: tuple[int, ...], latents: torch.Tensor | None, device: torch.device
) -> tuple[torch.Tensor, list[torch.Generator]]:
    """Noise to start from, of a shape (N, C, h, w) unless `latents` are given, and a generator of each one's steps.

    `generator` is one, one per input or one per completion, each for consecutive completions; else ValueError.
    """
    total = shape[0]
    sources = [generator] if generator is None or isinstance(generator, torch.Generator) else generator
    if not isinstance(sources, list | tuple) or not all(isinstance(g, torch.Generator | None) for g in sources):
        raise ValueError(f"generator is {generator!r}; it must be a torch.Generator, a list of them, or None")
    if sources is generator and len(sources) not in (inputs, total):
        needed = f"one per input ({inputs}) or one per completion ({total})"
        raise ValueError(f"generator is a list of {len(sources)}; it must have {needed}")
    each = total // len(sources)
    if latents is None:
        latents = torch.cat([randn_tensor((each, *shape[1:]), generator=g, device=device) for g in sources])
    if tuple(latents.shape) != shape:
        raise ValueError(f"latents has shape {tuple(latents.shape)}; it must be {shape}")
    latents = latents.to(device, torch.float32)
    if len(sources) == total > 1 and None not in sources:
        return latents, list(sources)
    seeds = [torch.randint(2**63 - 1, (each,), generator=g, device=g.device if g else None) for g in sources]
    return latents, [torch.Generator().manual_seed(seed) for seed in torch.cat(seeds).tolist()]
