"""The forward process on a face, and the schedules behind it (the report's figures 1, 4 and 11)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
from matplotlib.figure import Figure

from ..inference.sheets import sheet
from ..remote_code.image_io import to_signed
from ..remote_code.respaced_ddpm import RespacedDDPMScheduler, ReverseSteps
from .results import Result, Row

STEP_SIZES = (2, 10, 20, 40, 50)


def forward_process(process: Mapping[str, Any], face: np.ndarray, num_pictures: int = 9, seed: int = 0) -> Result:
    """q(x_t | x_0) of a face, (H, W, 3) uint8, at evenly spaced timesteps under one noise; a row per picture."""
    scheduler = RespacedDDPMScheduler.from_config(process)
    clean = to_signed(torch.from_numpy(np.array(face)).permute(2, 0, 1))
    timesteps = torch.linspace(0, len(scheduler) - 1, num_pictures).round().long()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed)).expand(num_pictures, -1, -1, -1)
    noisy = scheduler.add_noise(clean.expand(num_pictures, -1, -1, -1), noise, timesteps)
    shown = ((noisy.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    abar = scheduler.trained_alphas_cumprod[timesteps]
    rows = [
        {"t": t + 1, "signal": a**0.5, "noise": (1 - a) ** 0.5, "log_snr": float(np.log(a / (1 - a))) if a else None}
        for t, a in zip(timesteps.tolist(), abar.tolist(), strict=True)
    ]
    picture = sheet(
        [PIL.Image.fromarray(np.array(face))],
        [PIL.Image.fromarray(image) for image in shown],
        titles=("x_0", *(f"t = {row['t']}" for row in rows)),
    )
    columns = {"t": "from 1 to T", "signal": "sqrt(abar_t)", "noise": "sqrt(1 - abar_t)", "log_snr": "in nats"}
    return Result(picture, rows, {**_trained(process), "seed": seed}, columns)


def schedules(process: Mapping[str, Any], step_sizes: Sequence[int] = STEP_SIZES) -> Result:
    """Compares the trained schedule with the report's shorter ones, and the noise level with the one assumed.

    The figure has signal and noise over t, the schedules over t/T and the mismatch of each step. The trained betas
    must be linear; errors as in `steps_of_size`.
    """
    trained = RespacedDDPMScheduler.from_config(process).trained_alphas_cumprod
    every_step = {size: _steps(process, size, trained) for size in dict.fromkeys((1, *step_sizes))}
    rows: list[Row] = [
        {
            "step_size": size,
            "steps": len(steps),
            "last_beta": max(step["beta"] for step in steps),
            "last_abar": min(step["abar"] for step in steps),
            "mean_mismatch_nats": sum(abs(step["mismatch_nats"]) for step in steps) / len(steps),
            "largest_mismatch_nats": max(abs(step["mismatch_nats"]) for step in steps),
            "largest_offset_in_timesteps": max(
                abs(step["timestep_proportional"] - step["timestep_log_snr"]) for step in steps
            ),
        }
        for size, steps in every_step.items()
    ]
    columns = {
        "mean_mismatch_nats": "log SNR of the sample minus that of the timestep given to the network at the same t/T",
        "largest_offset_in_timesteps": "between the timestep at the same t/T and the one with the same noise level",
    }
    settings = {**_trained(process), "step_sizes": list(step_sizes)}
    details = {"steps": [step for steps in every_step.values() for step in steps]}
    return Result(_schedules_figure(trained, every_step), rows, settings, columns, details)


def _steps(process: Mapping[str, Any], size: int, trained: torch.Tensor) -> list[Row]:
    """Every step of the report's schedule for a step size, the noisiest first."""
    scheduler = steps_of_size(process, size)
    count = len(trained) // size
    steps = scheduler.reverse_steps(count)
    matched = steps_of_size(process, size, "log_snr").reverse_steps(count)
    columns = {
        "step_size": [size] * count,
        "step": range(count, 0, -1),
        "timestep_proportional": steps.timesteps.tolist(),
        "timestep_log_snr": matched.timesteps.tolist(),
        "beta": steps.betas.tolist(),
        "abar": steps.alphas_cumprod.tolist(),
        "log_snr": torch.logit(steps.alphas_cumprod).tolist(),
        "mismatch_nats": mismatch(steps, trained).tolist(),
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def mismatch(steps: ReverseSteps, trained: torch.Tensor) -> torch.Tensor:
    """log SNR of the sample minus that of the network's timestep, (N,) in nats; `trained` is abar_1 ... abar_T."""
    low = steps.timesteps.floor().long().clamp(0, len(trained) - 2)
    levels = torch.logit(trained)
    assumed = torch.lerp(levels[low], levels[low + 1], steps.timesteps - low)
    return torch.logit(steps.alphas_cumprod) - assumed


def _schedules_figure(trained: torch.Tensor, every_step: Mapping[int, Sequence[Row]]) -> Figure:
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    factors, compared, mismatched = figure.subplots(1, 3)
    time = torch.arange(1, len(trained) + 1)
    factors.plot(time, trained.sqrt(), label=r"signal $\sqrt{\bar\alpha_t}$")
    factors.plot(time, (1 - trained).sqrt(), label=r"noise $\sqrt{1-\bar\alpha_t}$")
    factors.set(xlabel="t", title=f"T = {len(trained)}")
    for number, (size, steps) in enumerate(every_step.items()):
        colour = f"C{number}"
        place = [step["step"] / len(steps) for step in steps]
        label = f"T' = {len(steps)} (s = {size})"
        compared.plot(place, [step["abar"] for step in steps], color=colour, label=label)
        if size > 1:
            nats = [step["mismatch_nats"] for step in steps]
            mismatched.plot(place, nats, marker=".", color=colour, label=f"s = {size}")
    compared.set(xlabel="t/T", ylabel=r"$\bar\alpha$", title="the report's shorter schedules")
    mismatched.axhline(0, color="black", linewidth=0.6)
    mismatched.set(xlabel="t'/T'", ylabel="nats of log SNR", title="sample minus timestep given to the network")
    for axes in (factors, compared, mismatched):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def steps_of_size(
    process: Mapping[str, Any], step_size: int, matching: str = "proportional", variance_type: str = "fixed_small"
) -> RespacedDDPMScheduler:
    """The report's sampler for a step size s, set to its T / s steps; `exact` keeps every s-th trained level instead.

    ValueError if s does not divide T or leads to a beta of 1 or more.
    """
    total = process["num_train_timesteps"]
    if step_size < 1 or total % step_size:
        raise ValueError(f"step size is {step_size}; it must divide the {total} trained timesteps")
    if matching == "exact":
        way = {"respacing": "exact", "timestep_spacing": "trailing"}
    else:
        way = {"respacing": "shorter_linear", "timestep_matching": matching}
    scheduler = RespacedDDPMScheduler.from_config(process, **way, variance_type=variance_type)
    scheduler.set_timesteps(total // step_size)
    return scheduler


def _trained(process: Mapping[str, Any]) -> dict[str, Any]:
    return {name: process[name] for name in ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end")}
