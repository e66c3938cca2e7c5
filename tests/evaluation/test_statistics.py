"""Intervals that cover."""

import math

import pytest
import torch

from halfface_pipeline.evaluation.statistics import agreement_estimates, mean_estimate, mean_estimates, ratio_estimate


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_interval_of_a_mean_is_the_normal_one_for_many_faces():
    values = torch.randn(2000, generator=generator()) * 3 + 7
    found = mean_estimate(values)
    half = 1.96 * float(values.std()) / math.sqrt(2000)
    assert found.value == pytest.approx(float(values.mean()), rel=1e-6) and found.num_faces == 2000
    assert found.high - found.value == pytest.approx(half, rel=0.12)
    assert found.value - found.low == pytest.approx(half, rel=0.12)


def test_intervals_cover_the_true_mean_as_often_as_they_say():
    draws = torch.randn(300, 40, generator=generator(1)).exp()
    covered = sum(
        estimate.low <= math.exp(0.5) <= estimate.high
        for estimate in mean_estimates({str(row): values for row, values in enumerate(draws)}, seed=3).values()
    )
    normal = mean_estimates({str(row): values.log() for row, values in enumerate(draws)})
    assert 0.90 <= sum(estimate.low <= 0 <= estimate.high for estimate in normal.values()) / 300 <= 0.98
    assert 0.80 <= covered / 300 <= 0.98  # log-normal values of 40 faces: a percentile interval is known to be short


def test_faces_without_a_value_are_left_out():
    values = torch.tensor([1.0, torch.nan, 3.0, torch.nan])
    found = mean_estimate(values)
    assert (found.value, found.num_faces) == (2.0, 2) and 1 <= found.low < found.high <= 3
    nothing = mean_estimate(values[1:2])
    assert math.isnan(nothing.value) and nothing.num_faces == 0
    alone = mean_estimate(values[:1])
    assert alone.value == 1 and math.isnan(alone.low)


def test_more_faces_than_fit_a_block_give_the_same_resamples(monkeypatch):
    values = torch.randn(50, generator=generator())
    whole = mean_estimate(values)
    monkeypatch.setattr("halfface_pipeline.evaluation.statistics.BLOCK", 50 * 100)
    parts = mean_estimate(values)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.08)


def test_a_ratio_of_what_goes_together_has_a_narrow_interval():
    below = torch.rand(60, generator=generator()) + 0.5
    exact = ratio_estimate(2 * below, below)
    assert exact.value == pytest.approx(2) and exact.low == pytest.approx(2) and exact.high == pytest.approx(2)
    apart = ratio_estimate(2 * below[torch.randperm(60, generator=generator(1))], below)
    assert apart.value == pytest.approx(2) and apart.high - apart.low > 0.1


def test_agreement_of_readings_with_ratings():
    rated = torch.randn(2000, generator=generator()) * 4 + 30
    read = 0.5 * (rated - 30) + torch.randn(2000, generator=generator(1)) * 1.5 + 32
    found = agreement_estimates(read, rated)
    truth = 2 / math.hypot(2, 1.5)
    assert found["correlation"].value == pytest.approx(float(torch.stack([read, rated]).corrcoef()[0, 1]), abs=1e-6)
    assert found["correlation"].low < truth < found["correlation"].high
    half = 1.96 * (1 - truth**2) / math.sqrt(2000)  # of a normal pair
    assert found["correlation"].high - found["correlation"].value == pytest.approx(half, rel=0.15)
    assert found["slope"].value == pytest.approx(0.5, abs=0.02)
    # Variance missed: half the rating's own, the noise, and the offset of 2.
    assert found["r2"].value == pytest.approx(1 - (4 + 1.5**2 + 4) / 16, abs=0.03)
    some = torch.cat([rated[:100], torch.full((50,), torch.nan)])
    there = agreement_estimates(torch.cat([read[:100], torch.zeros(50)]), some)["correlation"]
    assert there.num_faces == 100 and there == agreement_estimates(read[:100], rated[:100])["correlation"]
