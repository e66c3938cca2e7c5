"""The sampler of a pipeline as numbers: timesteps and the coefficients of each step, read off diffusers' scheduler."""

from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler

from ..diffusion.samplers import FEW_STEP_SAMPLER, FEW_STEPS, distilled_steps, make_sampler
from ..remote_code.noise_levels import check_scheduler, prepare_scheduler
from ..remote_code.pipeline import HalfFaceInpaintPipeline


def sampling_plan(pipe: HalfFaceInpaintPipeline, num_inference_steps: int = FEW_STEPS) -> dict[str, Any]:
    """DPM-Solver++(2M) (Lu et al. 2022) as linear combinations.

    With x the noisy half, o the network's prediction at the timestep and p the clean half of the step before (0 at
    first), each step computes

        clean = clean_x * x + clean_o * o
        next  = next_x * x + next_o * o + next_p * p

    and continues with x = next, p = clean. The last `next` is the generated half in [-1, 1], to be clamped.

    Args:
        pipe: The model; its scheduler is the one it was trained under.
        num_inference_steps: Denoising steps.

    Returns:
        `sampler`, `prediction_type`, and `steps`: a list of `timestep`, `alphas_cumprod` and the five coefficients.

    Raises:
        ValueError: If the model is distilled, or this sampler cannot be used with so many steps under the trained
            noise levels.
    """
    if distilled_steps(pipe.scheduler):
        raise ValueError(f"the model is distilled; the page samples by {FEW_STEP_SAMPLER}: give one that is not")
    most = pipe.scheduler.config.num_train_timesteps
    if not 1 <= num_inference_steps <= most:
        raise ValueError(f"steps is {num_inference_steps}; it must be from 1 to {most}")
    sampler = make_sampler(FEW_STEP_SAMPLER, pipe.scheduler)
    check_scheduler(sampler, num_inference_steps, pipe.config.trained_noise)
    scheduler = prepare_scheduler(sampler, num_inference_steps, "cpu")
    assert isinstance(scheduler, DPMSolverMultistepScheduler)
    # A step is linear, so that one step from the unit vectors of (x, o, p) shows its coefficients.
    x, o, p = torch.eye(3)
    steps = []
    for index, timestep in enumerate(scheduler.timesteps.tolist()):
        if index:
            scheduler.model_outputs[-1] = p
        following = scheduler.step(o, timestep, x, return_dict=False)[0].tolist()
        clean = scheduler.model_outputs[-1].tolist()
        abar = float(scheduler.alphas_cumprod[round(timestep)])
        coefficients = dict(zip(("next_x", "next_o", "next_p"), following, strict=True))
        coefficients |= {"clean_x": clean[0], "clean_o": clean[1]}
        steps.append({"timestep": timestep, "alphas_cumprod": abar, **coefficients})
    return {
        "sampler": FEW_STEP_SAMPLER,
        "prediction_type": scheduler.config.prediction_type,
        "steps": steps,
    }
