"""Tests that hold their level and find what is there."""

import math

import pytest
import scipy.stats
import torch

from halfface_pipeline.evaluation.significance import (
    exchange_test,
    false_discovery_rates,
    slice_gap_tests,
    uniform_ranks_test,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_exchange_test_holds_its_level_and_finds_a_shift_and_a_spread():
    p_values = []
    for seed in range(200):
        face = torch.randn(30, 1, generator=generator(seed))
        members = face + torch.randn(30, 4, generator=generator(1000 + seed))
        p_values.append(exchange_test(members[:, 0], members[:, 1:], permutations=99, seed=seed).p_value)
    assert 0.01 <= sum(p <= 0.05 for p in p_values) / 200 <= 0.09
    assert 0.4 <= sum(p_values) / 200 <= 0.6
    assert exchange_test(members[:, 0] + 2, members[:, 1:]).p_value == 1 / 1000
    assert exchange_test(members[:, 0], members[:, 1:] * 5, permutations=199).p_value < 0.05


def test_the_kolmogorov_smirnov_distance_is_the_largest_gap():
    # Real: 0 0; completed: 1 1 1 1. At 0 one distribution function is 1, the other 0.
    assert exchange_test(torch.zeros(2), torch.ones(2, 2)).statistic == pytest.approx(1)
    assert exchange_test(torch.tensor([0.0, 2.0]), torch.ones(2, 2)).statistic == pytest.approx(0.5)
    assert exchange_test(torch.ones(2), torch.ones(2, 2)).statistic == pytest.approx(0, abs=1e-6)


def test_chi_square_of_ranks():
    found = uniform_ranks_test(torch.tensor([0] * 20 + [1] * 10 + [2] * 0), 3)
    assert found.statistic == pytest.approx(20) and found.p_value == pytest.approx(math.exp(-10), rel=1e-6)
    assert uniform_ranks_test(torch.arange(30) % 3, 3).p_value == 1


def test_slices_are_compared_with_slices_drawn_at_random():
    places = torch.arange(40) % 4
    values = torch.rand(40, 200, generator=generator()) + 1
    p_values = [found.p_value for found in slice_gap_tests(values, places, 199)]
    assert 0.01 <= sum(p <= 0.05 for p in p_values) / 200 <= 0.09
    worse = torch.where(places == 2, 2.0, 1.0)[:, None] + 0.1 * values
    found = slice_gap_tests(worse, places)[0]
    assert found.p_value == pytest.approx(1 / 1000) and found.statistic == pytest.approx(1.87, rel=0.02)
    assert slice_gap_tests(worse, torch.where(places == 2, -1, places), 99)[0].p_value > 0.05


def test_false_discovery_rates():
    rates = false_discovery_rates([0.04, 0.01, 0.02, 0.9])
    assert rates == pytest.approx([0.16 / 3, 0.04, 0.04, 0.9])
    p_values = torch.rand(50, generator=generator(), dtype=torch.float64).pow(3).tolist()
    assert false_discovery_rates(p_values) == pytest.approx(scipy.stats.false_discovery_control(p_values).tolist())
    assert false_discovery_rates([]) == [] and false_discovery_rates([0.3]) == pytest.approx([0.3])
    # Where nothing differs, anything is discovered in one audit of twenty.
    audits = torch.rand(400, 30, generator=generator(1), dtype=torch.float64)
    assert 0.025 <= sum(min(false_discovery_rates(p.tolist())) <= 0.05 for p in audits) / 400 <= 0.08
