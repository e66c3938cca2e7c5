"""One optimizer step, and whether its weights are fit to be saved."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .batches import Batches, MicroBatch
from .distributed import any_rank
from .state import TrainingState

Loss = Callable[[torch.nn.Module, MicroBatch], torch.Tensor]


@dataclass(frozen=True)
class StepResult:
    """What a step reports, in this process.

    Args:
        loss: Mean over the accumulated parts.
        grad_norm: Euclidean norm of the gradient before clipping.
        lr: Learning rate.
        skipped: Whether the weights were left as they were.
    """

    loss: float
    grad_norm: float
    lr: float
    skipped: bool


def train_step(
    state: TrainingState, batches: Batches, loss_of: Loss, lr: float, max_grad_norm: float | None, max_loss: float
) -> StepResult:
    """Takes one optimizer step, or skips it in all processes if any has a loss or gradient that cannot be used.

    Args:
        state: Network, optimizer and counters; `state.step` chooses the batch.
        batches: The images and noise of each step.
        loss_of: The loss of the network for one accumulated part.
        lr: Learning rate of this step.
        max_grad_norm: Gradients of a larger norm are scaled down to it; None leaves them.
        max_loss: Steps with a larger loss, or one that is not finite, are skipped.

    Returns:
        Loss and gradient norm of this process.
    """
    accelerator, network, optimizer = state.accelerator, state.network, state.optimizer
    for group in optimizer.param_groups:
        group["lr"] = lr
    network.train()
    buffers = state.buffers()
    total = torch.zeros((), device=accelerator.device)
    for part, micro_batch in enumerate(batches.parts(state.step), start=1):
        with contextlib.nullcontext() if part == batches.num_parts else accelerator.no_sync(network):
            loss = loss_of(network, micro_batch)
            accelerator.backward(loss / batches.num_parts)
        total += loss.detach() / batches.num_parts
    grad_norm = float(accelerator.clip_grad_norm_(network.parameters(), max_grad_norm or math.inf))

    skipped = any_rank(accelerator, not (float(total) <= max_loss and math.isfinite(grad_norm)))
    if skipped:
        state.step_skipped(buffers)
    else:
        optimizer.step()
        state.step_taken(total)
    optimizer.zero_grad()
    return StepResult(float(total), grad_norm, lr, skipped)


@torch.no_grad()
def has_usable_loss(state: TrainingState, batches: Batches, loss_of: Loss, max_loss: float) -> bool:
    """Whether the next micro-batch has a loss of at most `max_loss`: an update may have broken the weights unseen."""
    buffers = state.buffers()
    state.bare_network.train()
    loss = float(loss_of(state.bare_network, next(batches.parts(state.step))))
    state.restore_buffers(buffers)
    return not any_rank(state.accelerator, not loss <= max_loss)
