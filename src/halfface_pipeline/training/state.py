"""What changes from step to step, saved and restored together."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..run_folder.checkpoints import Checkpoint, load_newest_checkpoint, save_checkpoint


@dataclass
class TrainingState:
    """Weights, their average, the optimizer and the counters of a run.

    Args:
        accelerator: Of the run.
        network: As prepared by the accelerator.
        optimizer: As prepared by the accelerator.
        ema_decay: Decay of the average of the weights; none keeps none.
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
        self.average = None
        if self.ema_decay is not None:
            self.average = EMAModel(self.bare_network.parameters(), decay=self.ema_decay, foreach=True)

    def step_taken(self, loss: torch.Tensor) -> None:
        """Counts one optimizer step, with its loss here, and moves the average of the weights."""
        if self.average is not None:
            move_average(self.average, self.bare_network)
        self.step += 1
        self.bad_in_a_row = 0
        self.steps_in_sum += 1
        self.loss_sum += loss

    def buffers(self) -> list[torch.Tensor]:
        """Copies of what a forward pass changes in the network: running statistics of batch normalization."""
        return [buffer.clone() for buffer in self.bare_network.buffers()]

    def put_back(self, buffers: list[torch.Tensor]) -> None:
        """Undoes what forward passes have changed since `buffers` were copied."""
        for buffer, value in zip(self.bare_network.buffers(), buffers, strict=True):
            buffer.copy_(value)

    def step_skipped(self, buffers: list[torch.Tensor]) -> None:
        """Counts one step whose gradient was thrown away, and puts back the buffers from before it."""
        self.put_back(buffers)
        self.step += 1
        self.bad_in_a_row += 1
        self.skipped_steps += 1

    def mean_loss(self) -> float:
        """Mean loss over all processes since this was last asked."""
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
            average=dict(zip(self._names(), self.average.shadow_params, strict=True)) if self.average else {},
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
        """Takes over the newest checkpoint, if there is one."""
        checkpoint = load_newest_checkpoint(folder)
        if checkpoint is None:
            return
        try:
            self._take_over(checkpoint)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"the checkpoint of step {checkpoint.step} in {folder} does not fit this network and optimizer: "
                f"{str(error).strip().splitlines()[0]}"
            ) from error
        self.step = self.saved_step = checkpoint.step
        self.steps_in_sum = checkpoint.progress["steps_in_sum"]
        # Runs of earlier versions skipped no step.
        self.skipped_steps = checkpoint.progress.get("skipped_steps", 0)
        self.bad_in_a_row = checkpoint.progress.get("bad_in_a_row", 0)
        self.loss_sum.fill_(checkpoint.progress["loss_sum"])

    def _take_over(self, checkpoint: Checkpoint) -> None:
        self.bare_network.load_state_dict(checkpoint.network)
        self.optimizer.load_state_dict(checkpoint.optimizer["optimizer"])
        if self.accelerator.scaler and checkpoint.optimizer["scaler"]:
            self.accelerator.scaler.load_state_dict(checkpoint.optimizer["scaler"])
        if self.average is not None:
            # Copied in place: what safetensors reads is the file itself, mapped, and the file is to be deleted.
            for name, shadow in zip(self._names(), self.average.shadow_params, strict=True):
                shadow.copy_(checkpoint.average[name])
            self.average.optimization_step = checkpoint.step - checkpoint.progress.get("skipped_steps", 0)

    def _names(self) -> list[str]:
        return [name for name, _ in self.bare_network.named_parameters()]

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[torch.nn.Module]:
        """The network with the average of its weights inside the context, and its own again after it."""
        if self.average is None:
            yield self.bare_network
            return
        self.average.store(self.bare_network.parameters())
        self.average.copy_to(self.bare_network.parameters())
        try:
            yield self.bare_network
        finally:
            self.average.restore(self.bare_network.parameters())


def move_average(average: EMAModel, network: torch.nn.Module) -> None:
    """The step of an `EMAModel` in one pass over the weights; its own takes three and a copy of them all.

    Args:
        average: Of the network's parameters, all of which are trained.
        network: After an optimizer step.
    """
    average.optimization_step += 1
    decay = average.get_decay(average.optimization_step)
    get_ema_multi_avg_fn(decay)(average.shadow_params, list(network.parameters()), average.optimization_step)
