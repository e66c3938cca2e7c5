"""The state of a training, saved and restored as a whole."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from ..run_folder.checkpoints import Checkpoint, load_newest_checkpoint, save_checkpoint
from .ema import EMA


@dataclass
class TrainingState:
    """Weights, their EMA, the optimizer and the counters of a run.

    Args:
        accelerator: Accelerator of the run.
        network: Network, prepared by the accelerator.
        optimizer: Optimizer, prepared by the accelerator.
        ema_decay: Decay of the EMA of the weights; None keeps no EMA.
    """

    accelerator: Accelerator
    network: torch.nn.Module
    optimizer: torch.optim.Optimizer
    ema_decay: float | None

    def __post_init__(self) -> None:
        self.step = 0
        self.steps_in_sum = 0
        self.skipped_steps = 0
        self.bad_in_a_row = 0
        self.saved_step: int | None = None
        self.loss_sum = torch.zeros((), device=self.accelerator.device)
        self.bare_network = self.accelerator.unwrap_model(self.network)
        self.ema = None if self.ema_decay is None else EMA(self.bare_network, self.ema_decay)

    def step_taken(self, loss: torch.Tensor) -> None:
        """Counts one optimizer step, with its loss in this process, and updates the EMA."""
        if self.ema is not None:
            self.ema.update(self.bare_network)
        self.step += 1
        self.bad_in_a_row = 0
        self.steps_in_sum += 1
        self.loss_sum += loss

    def buffers(self) -> list[torch.Tensor]:
        """Copies of the buffers, which a forward pass changes (running statistics of batch normalization)."""
        return [buffer.clone() for buffer in self.bare_network.buffers()]

    def restore_buffers(self, buffers: list[torch.Tensor]) -> None:
        """Restores the buffers to these copies."""
        for buffer, value in zip(self.bare_network.buffers(), buffers, strict=True):
            buffer.copy_(value)

    def step_skipped(self, buffers: list[torch.Tensor]) -> None:
        """Counts one step whose gradient is discarded, and restores the buffers from before it."""
        self.restore_buffers(buffers)
        self.step += 1
        self.bad_in_a_row += 1
        self.skipped_steps += 1
        if self.accelerator.scaler:
            self.accelerator.scaler.update()

    def mean_loss(self) -> float:
        """Mean loss over all processes since the last call."""
        mean = float(self.accelerator.reduce(self.loss_sum, "mean")) / self.steps_in_sum
        self.loss_sum.zero_()
        self.steps_in_sum = 0
        return mean

    def save(self, folder: Path, keep_last: int, keep_every: int | None = None) -> None:
        """Writes a checkpoint from the main process."""
        self.saved_step = self.step
        self.loss_sum = self.accelerator.reduce(self.loss_sum, "mean")
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        checkpoint = Checkpoint(
            step=self.step,
            network=self.bare_network.state_dict(),
            average=self.ema.weights() if self.ema else {},
            optimizer={"optimizer": self.optimizer.state_dict(), "scaler": scaler.state_dict() if scaler else {}},
            progress={
                "loss_sum": float(self.loss_sum),
                "steps_in_sum": self.steps_in_sum,
                "skipped_steps": self.skipped_steps,
                "bad_in_a_row": self.bad_in_a_row,
            },
        )
        save_checkpoint(folder, checkpoint, keep_last, keep_every)

    def resume(self, folder: Path) -> None:
        """Restores the newest checkpoint, if there is one."""
        checkpoint = load_newest_checkpoint(folder)
        if checkpoint is None:
            return
        try:
            self._restore(checkpoint)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"the checkpoint of step {checkpoint.step} in {folder} does not fit this network and optimizer: "
                f"{str(error).strip().splitlines()[0]}"
            ) from error
        self.step = self.saved_step = checkpoint.step
        self.steps_in_sum = checkpoint.progress["steps_in_sum"]
        self.skipped_steps = checkpoint.progress["skipped_steps"]
        self.bad_in_a_row = checkpoint.progress["bad_in_a_row"]
        self.loss_sum.fill_(checkpoint.progress["loss_sum"])

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.bare_network.load_state_dict(checkpoint.network)
        self.optimizer.load_state_dict(checkpoint.optimizer["optimizer"])
        if self.accelerator.scaler and checkpoint.optimizer["scaler"]:
            self.accelerator.scaler.load_state_dict(checkpoint.optimizer["scaler"])
        if self.ema is not None:
            self.ema.load(checkpoint.average, checkpoint.step - checkpoint.progress["skipped_steps"])

    def averaged_weights(self) -> contextlib.AbstractContextManager[torch.nn.Module]:
        """The network with the EMA of its weights inside the context; with its own if there is no EMA."""
        if self.ema is None:
            return contextlib.nullcontext(self.bare_network)
        return self.ema.swapped_into(self.bare_network)
