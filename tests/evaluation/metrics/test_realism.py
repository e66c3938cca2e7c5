"""Sets of images: equal numbers of different faces, the floor, and intervals."""

import pytest
import torch

from halfface_pipeline.evaluation.metrics.realism import (
    MEANINGS,
    across_halves,
    jackknife,
    jackknife_estimates,
    realism,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = normal(40, 2).double()
    (mean, without) = jackknife(40, lambda there: values[there].mean(dim=0))
    pairs = values.view(20, 2, 2).mean(dim=1)
    for place, estimate in enumerate(jackknife_estimates(mean, without, 40)):
        assert estimate.value == pytest.approx(float(values[:, place].mean()))
        assert estimate.high - estimate.value == pytest.approx(2.093 * float(pairs[:, place].std()) / 20**0.5)


def test_intervals_hold_a_true_mean_as_often_as_they_say():
    held = 0
    for seed in range(200):
        values = normal(60, 1, seed=seed).double()
        (estimate,) = jackknife_estimates(*jackknife(60, lambda there, v=values: v[there].mean(dim=0)), 60)
        held += estimate.low <= 0 <= estimate.high
    assert 182 <= held <= 198


def test_real_faces_and_completions_are_never_of_the_same_face():
    # Each completion equals its own truth: pairs of the same face would be at distance 0.
    truth = torch.arange(80.0)[:, None] * torch.tensor([[1.0, -1.0]])
    truth[1::2] += 1000
    found = dict(zip(MEANINGS, across_halves(truth, truth).tolist(), strict=True))
    assert found["precision"] == found["coverage"] == 0 and found["frechet_distance"] > 1000


def test_the_section_says_how_far_above_the_floor_a_model_is():
    truth, training = normal(80, 6), normal(100, 6, seed=1)
    rows = {"truth": truth, "other_face": truth + 1, "nearest_training_face": training[:80]}
    found = realism(truth, [truth + 1, truth], rows, training)
    assert found["num_each"] == 40 and list(found["measures"]) == list(MEANINGS)
    frechet = found["measures"]["frechet_distance"]
    shifted, same = frechet["by_seed"]
    assert same == frechet["rows"]["truth"]["value"]
    # Faces are odd or even, so the two shifts by 1 do not cancel exactly; each dimension adds its square.
    assert shifted - same == pytest.approx(6, abs=2.5)
    assert shifted == pytest.approx(frechet["rows"]["other_face"]["value"])
    assert frechet["rows"]["model"]["value"] == pytest.approx((shifted + same) / 2)
    assert frechet["above_floor"]["value"] == pytest.approx((shifted - same) / 2)
    assert frechet["above_floor"]["low"] > 0
    memorised = found["memorisation"]["rows"]
    assert memorised["nearest_training_face"]["p_value"] == 0.001 < 0.01 < memorised["truth"]["p_value"]
    assert realism(truth, [truth], {"truth": truth})["memorisation"] is None


def test_a_sampler_without_fault_is_not_above_the_floor():
    truth, drawn = normal(120, 5), normal(120, 5, seed=1)
    found = realism(truth, [drawn], {"truth": truth})
    for measure in found["measures"].values():
        assert measure["above_floor"]["low"] < 0 < measure["above_floor"]["high"]
    narrow = realism(truth, [0.3 * drawn], {"truth": truth})["measures"]
    assert narrow["frechet_distance"]["above_floor"]["low"] > 0 > narrow["recall"]["above_floor"]["high"]


def test_too_few_faces_and_numbers_that_are_none_are_refused():
    truth = normal(40, 3)
    with pytest.raises(ValueError, match="num_faces is 39; distances between sets of images need at least 40"):
        realism(truth[:39], [truth[:39]], {"truth": truth[:39]})
    with pytest.raises(ValueError, match="not finite numbers"):
        realism(truth, [truth.where(truth < 1, torch.nan)], {"truth": truth})
