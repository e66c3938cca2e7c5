"""The optimizer of a training."""

import torch

from ..config.schema import OptimizerConfig


def build_optimizer(network: torch.nn.Module, optimizer: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) as one fused kernel."""
    return torch.optim.AdamW(
        network.parameters(),
        lr=optimizer.lr,
        betas=(optimizer.beta1, optimizer.beta2),
        weight_decay=optimizer.weight_decay,
        eps=optimizer.eps,
        fused=True,
    )
