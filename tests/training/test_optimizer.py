"""Muon against the singular value decomposition, and AdamW as torch has it."""

import pytest
import torch

from halfface_pipeline.config.schema import OptimizerConfig
from halfface_pipeline.training.optimizer import VECTOR_LR, Muon, build_optimizer, orthogonalize


def matrix(rows, columns, smallest=0.05):
    """A random matrix with singular values from 1 down to `smallest`, and its factors U and V^T."""
    u, _, vt = torch.linalg.svd(torch.randn(rows, columns), full_matrices=False)
    return u * torch.linspace(1, smallest, min(rows, columns)) @ vt, u, vt


def test_orthogonalized_matrices_keep_their_singular_vectors():
    torch.manual_seed(0)
    sizes = [(8, 8), (8, 30), (30, 8), (5, 40), (8, 12)]
    matrices, us, vts = zip(*(matrix(*size) for size in sizes), strict=True)
    for result, u, vt in zip(orthogonalize(list(matrices)), us, vts, strict=True):
        values = u.T @ result @ vt.T
        assert values.diagonal().min() > 0.72 and values.diagonal().max() < 1.28
        torch.testing.assert_close(values, torch.diag(values.diagonal()), atol=1e-4, rtol=0)


def test_orthogonalized_together_is_orthogonalized_alone_at_any_scale():
    torch.manual_seed(0)
    first, second = torch.randn(6, 20), torch.randn(20, 6)
    together = orthogonalize([first, 1e-4 * second])
    for got, alone in zip(together, (first, second), strict=True):
        torch.testing.assert_close(got, orthogonalize([alone])[0], atol=1e-3, rtol=1e-3)
    assert torch.equal(orthogonalize([torch.zeros(3, 4)])[0], torch.zeros(3, 4))


def test_a_convolution_is_updated_as_the_matrix_it_is():
    torch.manual_seed(0)
    weight, gradient = torch.randn(8, 3, 2, 2), torch.randn(8, 3, 2, 2)
    convolution, linear = torch.nn.Parameter(weight.clone()), torch.nn.Parameter(weight.flatten(1).clone())
    for parameter in (convolution, linear):
        parameter.grad = gradient.reshape(parameter.shape).clone()
        Muon([parameter], lr=0.1).step()
    assert torch.equal(convolution.flatten(1), linear)
    values = torch.linalg.svdvals((weight.flatten(1) - linear) / 0.1)
    assert values.min() > 0.6 and values.max() < 1.28


@pytest.mark.parametrize(("rows", "columns", "factor"), [(4, 16, 1.0), (16, 4, 2.0)])
def test_tall_matrices_move_by_the_root_of_their_ratio(rows, columns, factor):
    torch.manual_seed(0)
    gradient, u, vt = matrix(rows, columns, smallest=1.0)
    parameter = torch.nn.Parameter(torch.zeros(rows, columns))
    parameter.grad = gradient
    Muon([parameter], lr=0.1).step()
    move = -parameter.detach() / 0.1 / factor
    scale = (u.T @ move @ vt.T).diagonal().mean()
    assert 0.72 < scale < 1.28
    torch.testing.assert_close(move, scale * u @ vt, atol=1e-4, rtol=0)


def test_vectors_move_by_a_fixed_root_mean_square_along_the_momentum():
    parameter = torch.nn.Parameter(torch.zeros(4))
    optimizer = Muon([parameter], lr=0.01, momentum=0.9)
    gradients = torch.tensor([[3.0, 0.0, 4.0, 0.0], [0.0, 12.0, 0.0, 5.0]])
    momentum, expected = torch.zeros(4), torch.zeros(4)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        momentum = 0.9 * momentum + 0.1 * gradient
        nesterov = 0.1 * gradient + 0.9 * momentum
        expected -= 0.01 * VECTOR_LR * nesterov / nesterov.square().mean().sqrt()
    torch.testing.assert_close(parameter.detach(), expected)


def test_weight_decay_is_decoupled_from_the_gradient():
    parameter = torch.nn.Parameter(torch.eye(3))
    parameter.grad = torch.zeros(3, 3)
    Muon([parameter], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(parameter.detach(), 0.95 * torch.eye(3))


def test_adamw_is_torchs_own():
    network = torch.nn.Linear(3, 2)
    optimizer = build_optimizer(network, OptimizerConfig(lr=1e-2, beta1=0.8, beta2=0.99, weight_decay=0.1, eps=1e-6))
    assert type(optimizer) is torch.optim.AdamW
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"], group["eps"]) == (1e-2, (0.8, 0.99), 0.1, 1e-6)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
