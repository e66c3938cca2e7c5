"""Intervals and tests against known answers."""

import math

import pytest
import scipy.stats
import torch

from halfface_pipeline.evaluation.statistics import (
    agreement_estimates,
    exchange_test,
    mean_estimate,
    mean_estimates,
    ratio_estimate,
    slice_gap_tests,
    uniform_ranks_test,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_interval_of_a_mean_is_scipys():
    values = normal(300).exp()
    found = mean_estimate(values)
    theirs = scipy.stats.bootstrap((values.numpy(),), lambda x, axis: x.mean(axis=axis), method="percentile", rng=0)
    assert found.value == pytest.approx(float(values.mean())) and found.num_faces == 300
    assert found.low == pytest.approx(theirs.confidence_interval.low, rel=0.02)
    assert found.high == pytest.approx(theirs.confidence_interval.high, rel=0.02)


def test_faces_without_a_value_are_left_out():
    values = torch.tensor([1.0, torch.nan, 3.0, torch.nan])
    found = mean_estimates({"some": values, "all": values.nan_to_num(2.0)})["some"]
    assert (found.value, found.num_faces) == (2.0, 2) and 1 <= found.low < found.high <= 3
    nothing = mean_estimate(values[1:2])
    assert math.isnan(nothing.value) and nothing.num_faces == 0
    alone = mean_estimate(values[:1])
    assert alone.value == 1 and math.isnan(alone.low)


def test_ratio_of_dependent_means_has_a_narrow_interval():
    below = normal(60).abs() + 0.5
    exact = ratio_estimate(2 * below, below)
    assert exact.value == pytest.approx(2) and exact.low == pytest.approx(2) and exact.high == pytest.approx(2)
    apart = ratio_estimate(2 * below.flip(0), below)
    assert apart.value == pytest.approx(2) and apart.high - apart.low > 0.1
    single = ratio_estimate(torch.tensor([6.0]), torch.tensor([3.0]))
    assert single.value == 2 and single.num_faces == 1 and math.isnan(single.low)


def test_agreement_of_predictions_with_ratings():
    rated = normal(2000) * 4 + 30
    predicted = 0.5 * (rated - 30) + normal(2000, seed=1) * 1.5 + 32
    found = agreement_estimates(predicted, rated)
    truth = 2 / math.hypot(2, 1.5)
    assert found["correlation"].value == pytest.approx(float(torch.stack([predicted, rated]).corrcoef()[0, 1]))
    half = 1.96 * (1 - truth**2) / math.sqrt(2000)  # of a normal pair
    assert found["correlation"].high - found["correlation"].value == pytest.approx(half, rel=0.15)
    assert found["slope"].value == pytest.approx(0.5, abs=0.02)
    # Variance missed: half the rating's own, the noise, and the offset of 2.
    assert found["r2"].value == pytest.approx(1 - (4 + 1.5**2 + 4) / 16, abs=0.03)
    some = torch.cat([rated[:100], torch.full((50,), torch.nan)])
    complete = agreement_estimates(torch.cat([predicted[:100], torch.zeros(50)]), some)["correlation"]
    assert complete.num_faces == 100 and complete == agreement_estimates(predicted[:100], rated[:100])["correlation"]


def test_exchange_test_is_the_ks_distance():
    real, completed = (normal(40) * 4).round(), (normal(40, 3, seed=1) * 4).round() + 1
    theirs = scipy.stats.ks_2samp(real.numpy(), completed.flatten().numpy()).statistic
    assert exchange_test(real, completed).statistic == pytest.approx(theirs)
    assert exchange_test(torch.zeros(2), torch.ones(2, 2)).statistic == pytest.approx(1)
    assert exchange_test(torch.ones(2), torch.ones(2, 2)).statistic == pytest.approx(0, abs=1e-9)


def test_exchange_test_permutes_within_faces():
    face = normal(60, 1)
    members = 10 * face + normal(60, 5, seed=1)  # faces differ far more than the members of one
    assert exchange_test(members[:, 0], members[:, 1:]).p_value > 0.05
    assert exchange_test(members[:, 0] + 2, members[:, 1:]).p_value == 1 / 1000
    assert exchange_test(face[:, 0], face + 5 * normal(60, 4, seed=2)).p_value < 0.05  # another spread


def test_slices_that_differ_are_found():
    slices = [1 + 0.1 * normal(10, 2, seed=seed).abs() for seed in range(4)]
    same, worse = slice_gap_tests([slices[0], slices[1], slices[2] * torch.tensor([1.0, 2.0]), slices[3]])
    assert worse.p_value == 1 / 1000 and same.p_value > 0.01 and worse.num_faces == 40
    means = [float(each[:, 1].mean()) for each in slices]
    assert worse.statistic == pytest.approx(2 * means[2] / min(means[:2] + means[3:]))
    assert slice_gap_tests([torch.zeros(3, 1), torch.ones(3, 1)])[0].statistic == math.inf


def test_chi_square_of_ranks():
    found = uniform_ranks_test(torch.tensor([0] * 20 + [1] * 10 + [2] * 0), 3)
    assert found.statistic == pytest.approx(20) and found.p_value == pytest.approx(math.exp(-10), rel=1e-6)
