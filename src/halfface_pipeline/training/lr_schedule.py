"""The learning rate as a function of how far training is: nothing to save, nothing to restore."""

import math

from ..config.schema import LRScheduleConfig


def learning_rate(
    schedule: LRScheduleConfig, peak: float, step: int, total_steps: int, steps_per_epoch: float
) -> float:
    """Learning rate of one optimizer step.

    `cosine_restarts` equals `torch.optim.lr_scheduler.CosineAnnealingWarmRestarts` stepped in fractions of an epoch
    (SGDR, Loshchilov and Hutter 2017, equation 5).

    Args:
        schedule: Kind and shape.
        peak: The highest learning rate.
        step: Optimizer step, from 0.
        total_steps: Optimizer steps of the whole training; `linear` and `cosine` reach `min_lr` after the last.
        steps_per_epoch: Optimizer steps of one pass over the data, whole or fractional.

    Returns:
        The learning rate.
    """
    if step < schedule.warmup_steps:
        return peak * (step + 1) / schedule.warmup_steps
    if schedule.kind == "constant":
        return peak
    progress = (step - schedule.warmup_steps) / max(1, total_steps - schedule.warmup_steps)
    if schedule.kind == "linear":
        return schedule.min_lr + (peak - schedule.min_lr) * (1 - min(progress, 1.0))
    if schedule.kind == "cosine_restarts":
        progress = _restart_progress(step / steps_per_epoch, schedule.first_period, schedule.period_multiplier)
    return schedule.min_lr + (peak - schedule.min_lr) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def _restart_progress(epoch: float, first_period: float, multiplier: int) -> float:
    """How much of its current period is over at `epoch`, in [0, 1)."""
    if multiplier == 1:
        return epoch % first_period / first_period
    start, period = 0.0, first_period
    while epoch >= start + period:
        start, period = start + period, period * multiplier
    return (epoch - start) / period
