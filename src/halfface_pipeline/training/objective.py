"""What a training minimizes: the loss of a denoiser, or that of a distilled model."""

from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler

from ..config.schema import DistillationConfig, ModelConfig, ObjectiveConfig
from ..diffusion.distillation import MEMBERS, distillation_loss, distilled_scheduler, timesteps_of
from ..diffusion.loss import denoising_loss
from .batches import MicroBatch
from .step import Loss


@dataclass(frozen=True)
class Objective:
    """What a training minimizes.

    Args:
        loss_of: The loss of a network for one micro-batch.
        num_noises: Noises that it takes per image.
    """

    loss_of: Loss
    num_noises: int


def build_objective(
    scheduler: DDPMScheduler,
    model: ModelConfig,
    objective: ObjectiveConfig,
    distillation: DistillationConfig,
    teacher: torch.nn.Module | None,
) -> Objective:
    """The objective of the configuration, under a noise schedule; a teacher if there is one in the configuration."""
    if teacher is None:

        def denoising(network: torch.nn.Module, batch: MicroBatch) -> torch.Tensor:
            images, timesteps, noise, masks = batch
            return denoising_loss(network, scheduler, model, images, timesteps, noise, objective.min_snr_gamma, masks)

        return Objective(denoising, 1)

    few = distillation.num_steps
    levels = timesteps_of(distilled_scheduler(scheduler, few), few)

    def distilling(network: torch.nn.Module, batch: MicroBatch) -> torch.Tensor:
        images, drawn, noise, _ = batch
        return distillation_loss(network, teacher, scheduler, model, levels, images, drawn, noise)

    return Objective(distilling, MEMBERS * few)
