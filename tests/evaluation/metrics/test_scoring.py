"""Energy scores and ranks against closed forms for Gaussians."""

import math

import pytest
import torch

from halfface_pipeline.evaluation.metrics.scoring import distances, truth_ranks
from halfface_pipeline.evaluation.statistics import uniform_ranks_test

NUM = 40_000


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean_distance(mean, deviation):
    """E|Z| for Z ~ N(mean, deviation^2), the folded normal distribution."""
    return deviation * math.sqrt(2 / math.pi) * math.exp(-(mean**2) / (2 * deviation**2)) + mean * math.erf(
        mean / (deviation * math.sqrt(2))
    )


SAMPLERS = {"true": (0, 1), "narrow": (0, 0.5), "wide": (0, 2), "biased": (0.7, 1), "unconditional": (None, None)}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("K", [2, 4])
def test_the_energy_score_is_that_of_the_closed_form_at_any_number_of_completions(sampler, K):
    """Given c ~ N(0, 4), the truth is y ~ N(c, 1); completions x ~ N(c + m, s^2), or N(0, 5) without looking at c."""
    centre, truth, noise = 2 * normal(NUM, 1, seed=1), normal(NUM, 1, seed=2), normal(NUM, K, 1, seed=3)
    mean, deviation = SAMPLERS[sampler]
    if mean is None:
        completed, apart, own = noise * math.sqrt(5), mean_distance(0, math.sqrt(10)), math.sqrt(5)
    else:
        completed = centre[:, None] + mean + deviation * noise
        apart, own = mean_distance(mean, math.sqrt(1 + deviation**2)), deviation
    found = distances(centre + truth, completed)
    assert float(found.to_truth.mean()) == pytest.approx(apart, rel=0.02)
    assert float(found.pairwise.mean()) == pytest.approx(2 * own / math.sqrt(math.pi), rel=0.02)
    assert float(found.energy_score.mean()) == pytest.approx(apart - own / math.sqrt(math.pi), rel=0.03)


def test_the_energy_score_is_smallest_for_the_true_conditional_also_in_many_dimensions():
    centre, truth, noise = 2 * normal(4000, 12, seed=1), normal(4000, 12, seed=2), normal(4000, 4, 12, seed=3)
    scores = {
        name: float(
            distances(
                centre + truth,
                noise * math.sqrt(5) if mean is None else centre[:, None] + mean + deviation * noise,
            ).energy_score.mean()
        )
        for name, (mean, deviation) in SAMPLERS.items()
    }
    assert min(scores, key=scores.get) == "true"
    assert max(scores, key=scores.get) == "unconditional"
    repeated = (centre[:, None] + noise)[:, :1].expand(-1, 4, -1)
    assert float(distances(centre + truth, repeated).energy_score.mean()) > 1.3 * scores["true"]


def test_distances_by_hand():
    found = distances(torch.tensor([[0.0, 0.0]]), torch.tensor([[[3.0, 4.0], [0.0, 0.0], [6.0, 8.0]]]))
    root = math.sqrt(2)
    assert found.to_truth[0].tolist() == pytest.approx([5 / root, 0, 10 / root])
    assert float(found.pairwise) == pytest.approx((5 + 5 + 10) / 3 / root)
    assert float(found.energy_score) == pytest.approx((5 - 10 / 3) / root)
    # The truth's mean distance to the others, then each completion's to the two others and to the truth.
    assert found.eccentricity[0].tolist() == pytest.approx([x / root / 3 for x in (15, 15, 15, 25)])


def test_one_completion_counts_for_all_of_the_probability():
    found = distances(torch.zeros(3, 2), torch.ones(3, 1, 2))
    assert found.energy_score.tolist() == pytest.approx([1, 1, 1]) and bool(found.pairwise.isnan().all())


def test_ranks_are_uniform_for_a_calibrated_sampler_and_tell_a_narrow_from_a_wide_one():
    truth, noise = normal(3000, 1, seed=1), normal(3000, 4, 1, seed=2)
    shares = {}
    for name, deviation in {"true": 1.0, "narrow": 0.3, "wide": 3.0}.items():
        found = distances(truth, deviation * noise)
        for ranked, values in {
            "value": torch.cat([truth, deviation * noise[..., 0]], dim=1),
            "distance": found.eccentricity,
        }.items():
            ranks = truth_ranks(values[:, 0], values[:, 1:])
            p_value = uniform_ranks_test(ranks, 5).p_value
            assert (p_value > 0.01) == (name == "true"), (name, ranked, p_value)
            shares[name, ranked] = (torch.bincount(ranks, minlength=5) / 3000).tolist()
    assert shares["narrow", "value"][0] > 0.3 < shares["narrow", "value"][4]  # outside of them, on either side
    assert shares["wide", "value"][2] > 0.3
    assert shares["narrow", "distance"][4] > 0.5 and shares["wide", "distance"][0] > 0.3


def test_ties_are_broken_at_random():
    ranks = truth_ranks(torch.zeros(5000), torch.zeros(5000, 3))
    assert uniform_ranks_test(ranks, 4).p_value > 0.01
    assert truth_ranks(torch.tensor([1.0]), torch.tensor([[0.0, 0.0, 2.0]])).tolist() == [2]
