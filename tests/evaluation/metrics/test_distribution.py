"""Distances between sets of images against closed forms, brute force, and torchmetrics."""

import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from halfface_pipeline.evaluation.metrics import distribution
from halfface_pipeline.evaluation.metrics.distribution import (
    across_halves,
    frechet_distance,
    jackknife,
    kernel_distance,
    memorisation,
    neighbourhoods,
    set_distances,
)
from halfface_pipeline.evaluation.metrics.registry import SET_METRICS


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exactly(mean, deviations, num, seed=0):
    """Samples whose mean and covariance are these, not only on average."""
    raw = normal(num, len(mean), seed=seed)
    raw = raw - raw.mean(dim=0)
    root = torch.linalg.cholesky(raw.T @ raw / (num - 1))
    return torch.linalg.solve_triangular(root, raw.T, upper=False).T * torch.tensor(deviations) + torch.tensor(mean)


def test_frechet_distance_of_gaussians():
    a = exactly([0.0, 1.0, 2.0], [1.0, 2.0, 0.5], 50)
    b = exactly([1.0, 1.0, 0.0], [3.0, 2.0, 1.5], 80, seed=1)
    assert frechet_distance(a, b) == pytest.approx((1 + 4) + (2**2 + 0 + 1**2))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_is_the_same_with_fewer_and_more_faces_than_dimensions():
    a, b = normal(30, 6), 2 * normal(20, 6, seed=1) + 1
    # Dimensions that are always 0 change nothing but which of the two ways is taken.
    wide = [torch.cat([x, torch.zeros(len(x), 60, dtype=x.dtype)], dim=1) for x in (a, b)]
    assert frechet_distance(*wide) == pytest.approx(frechet_distance(a, b), rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-9)


class Flat(torch.nn.Module):
    num_features = 48

    def forward(self, images):
        return images.flatten(1).double() / 255


def test_torchmetrics_agrees():
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (90, 3, 4, 4), generator=generator, dtype=torch.uint8)
    fake = torch.randint(60, 256, (90, 3, 4, 4), generator=generator, dtype=torch.uint8)
    kernel = KernelInceptionDistance(feature=Flat(), subsets=1, subset_size=90)
    frechet = FrechetInceptionDistance(feature=Flat())
    for metric in (kernel, frechet):  # the buffer of the first warns of its size
        metric.set_dtype(torch.float64)
        metric.update(real, real=True)
        metric.update(fake, real=False)
    flat = Flat()(real), Flat()(fake)
    assert frechet_distance(*flat) == pytest.approx(float(frechet.compute()), rel=1e-6)
    assert kernel_distance(*flat) == pytest.approx(float(kernel.compute()[0]), rel=1e-6)


def test_kernel_distance_of_points():
    # All of one set at a, all of the other at b: k(a, a) + k(b, b) - 2 k(a, b).
    a, b = torch.full((4, 2), 1.0), torch.full((7, 2), -0.5)
    assert kernel_distance(a, b) == pytest.approx((1 + 1) ** 3 + (0.25 + 1) ** 3 - 2 * (-0.5 + 1) ** 3)


def test_neighbourhoods_on_a_line():
    # With the nearest one as neighbour the radii of 0, 1, 3, 10 are 1, 1, 2, 7, those of 0.5, 20, 21 are 19.5, 1, 1.
    real, completed = torch.tensor([[0.0], [1.0], [3.0], [10.0]]), torch.tensor([[0.5], [20.0], [21.0]])
    found = neighbourhoods(real, completed, nearest=1)
    # 0.5 lies around 0 and 1; 20 and 21 lie around none. 0.5 reaches all real ones.
    assert found == pytest.approx({"precision": 1 / 3, "recall": 1, "density": 2 / 3, "coverage": 2 / 4})


def test_neighbourhoods_of_a_set_with_itself_and_with_one_far_away():
    real = normal(40, 5)
    # Each point lies around itself and around the k whose k-th neighbour or nearer it is, on average.
    same = neighbourhoods(real, real)
    assert same == pytest.approx({"precision": 1, "recall": 1, "density": 6 / 5, "coverage": 1})
    assert neighbourhoods(real, real + 100) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_blocks_of_rows_change_nothing(monkeypatch):
    a, b, c = normal(23, 4), normal(31, 4, seed=1) + 0.3, normal(23, 4, seed=2)

    def everything():
        return kernel_distance(a, b), neighbourhoods(a, b), memorisation(c, b, a, permutations=20)

    whole = everything()
    monkeypatch.setattr(distribution, "ROWS_AT_ONCE", 5)
    parts = everything()
    assert parts[0] == pytest.approx(whole[0]) and parts[1] == pytest.approx(whole[1])
    assert parts[2]["ratio"] == pytest.approx(whole[2]["ratio"]) and parts[2]["p_value"] == whole[2]["p_value"]


def test_copies_of_training_faces_are_found():
    training, held_out = normal(200, 8), normal(50, 8, seed=1)
    copies = memorisation(training[:50] + 1e-3, training, held_out)
    assert copies["to_training"] == pytest.approx(1e-3) and copies["ratio"]["value"] < 0.01
    assert copies["p_value"] == 0.001
    assert copies["p_value"] == 0.001
    near = memorisation(training[:50] + 0.5 * normal(50, 8, seed=2), training, held_out)
    assert near["ratio"]["high"] < 1 and near["p_value"] == 0.001


def test_what_is_new_is_no_copy_whatever_the_number_of_training_faces():
    for seed in range(4):
        held_out, fresh = normal(60, 6, seed=seed), normal(60, 6, seed=10 + seed)
        found = memorisation(fresh, normal(400, 6, seed=20 + seed), held_out)
        assert found["to_training"] < 0.8 * found["to_held_out"]  # more of them: one is nearer by chance
        assert found["ratio"]["low"] < 1 < found["ratio"]["high"] and found["p_value"] > 0.02


def test_jackknife_of_a_mean_is_its_standard_error():
    values = normal(40, 2)
    pairs = values.view(20, 2, 2).mean(dim=1)
    (estimates,) = jackknife(40, lambda there: values[there].mean(dim=0)[None])
    for place, estimate in enumerate(estimates):
        assert estimate.value == pytest.approx(float(values[:, place].mean()))
        assert estimate.high - estimate.value == pytest.approx(
            2.0930 * float(pairs[:, place].std()) / 20**0.5, rel=1e-4
        )


def test_sets_are_never_of_the_same_faces():
    # Each completion equals its own truth: pairs of the same face would be at distance 0.
    truth = torch.arange(80.0)[:, None] * torch.tensor([[1.0, -1.0]])
    truth[1::2] += 1000
    found = dict(zip(SET_METRICS, across_halves(truth, truth).tolist(), strict=True))
    assert found["precision"] == found["coverage"] == 0 and found["frechet_distance"] > 1000


def test_the_distance_above_the_floor():
    truth, training = normal(80, 6), normal(100, 6, seed=1)
    rows = {"truth": truth, "other_face": truth + 1, "nearest_training_face": training[:80]}
    found = set_distances(rows, [truth + 1, truth], training)
    assert found["num_each"] == 40 and list(found["measures"]) == list(SET_METRICS)
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
    assert set_distances({"truth": truth}, [truth])["memorisation"] is None


def test_a_perfect_sampler_is_not_above_the_floor():
    truth, drawn = normal(120, 5), normal(120, 5, seed=1)
    found = set_distances({"truth": truth}, [drawn])
    for measure in found["measures"].values():
        assert measure["above_floor"]["low"] < 0 < measure["above_floor"]["high"]
    narrow = set_distances({"truth": truth}, [0.3 * drawn])["measures"]
    assert narrow["frechet_distance"]["above_floor"]["low"] > 0 > narrow["recall"]["above_floor"]["high"]


def test_too_few_faces_are_left_out():
    found = set_distances({"truth": normal(39, 3)}, [normal(39, 3)])
    assert found["left_out"].startswith("num_faces is 39; distances between sets of images need at least 40")
