"""The optimizer of a training."""

import math
from collections import defaultdict
from collections.abc import Callable

import torch
from torch.optim.optimizer import ParamsT

from ..config.schema import OptimizerConfig

POLYNOMIALS = ((8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526))
"""a, b, c of x <- a x + b x^3 + c x^5, each closest to 1 on what the one before leaves of the interval [0.01, 1]
(Amsel et al. 2025); the three take it to [0.73, 1.27]."""
VECTOR_LR = 0.15
"""Root mean square of the update of a bias or scale at learning rate 1."""
EPS = 1e-7


def build_optimizer(network: torch.nn.Module, optimizer: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer that `optimizer.kind` names, for all parameters of the network."""
    if optimizer.kind == "muon":
        return Muon(network.parameters(), optimizer.lr, optimizer.beta1, optimizer.weight_decay)
    return torch.optim.AdamW(
        network.parameters(),
        lr=optimizer.lr,
        betas=(optimizer.beta1, optimizer.beta2),
        weight_decay=optimizer.weight_decay,
        eps=optimizer.eps,
        fused=True,
    )


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024): momentum with its singular values brought near 1, for convolutions too.

    A weight of shape (out, in, ...) is updated as the matrix (out, in * ...): by its orthogonalized Nesterov momentum
    times sqrt(max(1, rows / columns)). A bias or a scale is updated by its Nesterov momentum, brought to a root mean
    square of `VECTOR_LR`. `torch.optim.Muon` takes matrices only, one at a time.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        momentum: Decay of the momentum, in [0, 1).
        weight_decay: Decoupled weight decay.
    """

    def __init__(self, params: ParamsT, lr: float, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Updates all parameters that have a gradient.

        Args:
            closure: None; there is no loss to evaluate again.
        """
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            grads = [param.grad for param in params]
            for param in params:
                if "momentum" not in self.state[param]:
                    self.state[param]["momentum"] = torch.zeros_like(param)
            buffers = [self.state[param]["momentum"] for param in params]
            torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
            nesterov = torch._foreach_lerp(grads, buffers, group["momentum"])

            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            matrices = [update.flatten(1) for update in nesterov if update.ndim > 1]
            orthogonal = iter(orthogonalize(matrices))
            for param, update in zip(params, nesterov, strict=True):
                if param.ndim > 1:
                    matrix = next(orthogonal)
                    scale = math.sqrt(max(1, matrix.shape[0] / matrix.shape[1]))
                    param.sub_(matrix.reshape(param.shape), alpha=group["lr"] * scale)
                else:
                    scale = VECTOR_LR * math.sqrt(update.numel())
                    param.addcdiv_(update, update.norm() + EPS, value=-group["lr"] * scale)


def orthogonalize(matrices: list[torch.Tensor]) -> list[torch.Tensor]:
    """Brings the singular values of each matrix near 1: U S V^T becomes about U V^T.

    X <- a X + b (XX^T) X + c (XX^T)^2 X multiplies X by polynomials of G = XX^T, which commute: G alone is iterated,
    for all matrices of one smaller side at once, and the product of the polynomials is applied to X at the end.
    """
    wide = [matrix.T if matrix.shape[0] > matrix.shape[1] else matrix for matrix in matrices]
    by_side: dict[int, list[int]] = defaultdict(list)
    for index, matrix in enumerate(wide):
        by_side[matrix.shape[0]].append(index)
    result = list(matrices)
    for side, indices in by_side.items():
        gram = torch.stack([wide[index] @ wide[index].T for index in indices])
        norm = gram.diagonal(dim1=1, dim2=2).sum(1).sqrt()[:, None, None] + EPS
        gram /= norm**2
        product = torch.eye(side, device=gram.device, dtype=gram.dtype) / norm
        for step, (a, b, c) in enumerate(POLYNOMIALS, start=1):
            factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            factor.diagonal(dim1=1, dim2=2).add_(a)
            product = factor @ product
            if step < len(POLYNOMIALS):
                gram = factor @ (factor @ gram)
        for index, polynomial in zip(indices, product, strict=True):
            orthogonal = polynomial @ wide[index]
            result[index] = orthogonal if wide[index] is matrices[index] else orthogonal.T
    return result
