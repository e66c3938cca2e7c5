"""The exponential moving average (EMA) of the weights, which is sampled and saved."""

import contextlib
from collections.abc import Iterator

import torch
from diffusers.training_utils import EMAModel
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA(EMAModel):
    """diffusers' `EMAModel` of a network whose parameters are all trained, updated in one pass over the weights."""

    def __init__(self, network: torch.nn.Module, decay: float) -> None:
        super().__init__(network.parameters(), decay=decay, foreach=True)
        self.names = [name for name, _ in network.named_parameters()]

    def update(self, network: torch.nn.Module) -> None:
        """What `EMAModel.step` computes in three passes and a copy of all weights."""
        self.optimization_step += 1
        decay = self.get_decay(self.optimization_step)
        get_ema_multi_avg_fn(decay)(self.shadow_params, list(network.parameters()), self.optimization_step)

    def weights(self) -> dict[str, torch.Tensor]:
        """The averages by the names of their parameters."""
        return dict(zip(self.names, self.shadow_params, strict=True))

    def load(self, weights: dict[str, torch.Tensor], num_updates: int) -> None:
        """Restores `weights()` after `num_updates` updates, by copying: a memory-mapped file is kept otherwise."""
        for name, shadow in zip(self.names, self.shadow_params, strict=True):
            shadow.copy_(weights[name])
        self.optimization_step = num_updates

    @contextlib.contextmanager
    def swapped_into(self, network: torch.nn.Module) -> Iterator[torch.nn.Module]:
        """The network with the averages as its weights inside the context, and with its own again after it."""
        self.store(network.parameters())
        self.copy_to(network.parameters())
        try:
            yield network
        finally:
            self.restore(network.parameters())
