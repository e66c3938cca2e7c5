"""Tests over faces: whether a difference is more than chance. What is exchanged or shuffled is always a whole face."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .statistics import BLOCK

PERMUTATIONS = 999
CHANCE = 0.05
"""What a p-value, or a false discovery rate, must be below to be told as a difference."""


@dataclass(frozen=True)
class TestResult:
    """A permutation or chi-square test.

    Attributes:
        statistic: How far the data are from the hypothesis.
        p_value: How often data under the hypothesis are as far.
        num_faces: Faces tested.
    """

    __test__ = False  # pytest takes the name for a class of tests

    statistic: float
    p_value: float
    num_faces: int


def exchange_test(
    real: torch.Tensor, completed: torch.Tensor, permutations: int = PERMUTATIONS, seed: int = 0
) -> TestResult:
    """Whether a number read off real faces is distributed as among completions: two samples, paired by face.

    The statistic is the Kolmogorov-Smirnov distance of the two samples. If completions come from p(hidden | known),
    the truth is exchangeable with them given the known half, so any of the K + 1 could have been the truth; choosing
    one at random for each face gives the distribution of the statistic without further assumptions.

    Args:
        real: (N,), the number for each true face.
        completed: (N, K), for its completions.
        permutations: Random choices.
        seed: Of the choices.

    Returns:
        The test.
    """
    together = torch.cat([real[:, None], completed], dim=1)
    num, members = together.shape
    order = together.flatten().argsort()
    ordered = together.flatten()[order]
    ends = torch.cat([ordered[1:] > ordered[:-1], torch.ones(1, dtype=torch.bool)])
    generator = torch.Generator().manual_seed(seed)

    def distance(chosen: torch.Tensor) -> torch.Tensor:
        """For chosen members (P, N), the largest gap between the two empirical distribution functions."""
        weights = torch.full((len(chosen), num, members), -1.0 / (num * (members - 1)))
        weights.scatter_(2, chosen[..., None], 1.0 / num)
        return weights.flatten(1)[:, order].cumsum(dim=1)[:, ends].abs().amax(dim=1)

    observed = float(distance(torch.zeros(1, num, dtype=torch.int64)))
    at_once, beyond = max(1, BLOCK // (num * members)), 0
    for first in range(0, permutations, at_once):
        size = min(at_once, permutations - first)
        # The 1e-6 lets equal distances, summed in another order, count as equal.
        beyond += int((distance(torch.randint(members, (size, num), generator=generator)) >= observed - 1e-6).sum())
    return TestResult(observed, (1 + beyond) / (1 + permutations), num)


def uniform_ranks_test(ranks: torch.Tensor, num_ranks: int) -> TestResult:
    """Pearson's chi-square test that ranks are uniform, as those of a calibrated sampler are.

    Args:
        ranks: (N,) whole numbers from 0 to num_ranks - 1.
        num_ranks: K + 1.

    Returns:
        The test; its statistic is chi square with K degrees of freedom.
    """
    counts = torch.bincount(ranks, minlength=num_ranks).double()
    expected = len(ranks) / num_ranks
    statistic = ((counts - expected) ** 2 / expected).sum()
    # The survival function of chi square with k degrees of freedom is Q(k / 2, x / 2).
    p_value = torch.special.gammaincc(torch.tensor((num_ranks - 1) / 2, dtype=torch.float64), statistic / 2)
    return TestResult(float(statistic), float(p_value), len(ranks))


def slice_gap_tests(
    values: torch.Tensor, slices: torch.Tensor, permutations: int = PERMUTATIONS, seed: int = 0
) -> list[TestResult]:
    """Whether slices of the faces differ more than slices drawn at random: the worst was looked for, so chance is too.

    Args:
        values: (N, M) positive values without NaN, M measures.
        slices: (N,) whole numbers, the slice of each face; negative for none.
        permutations: Random assignments of the faces to slices of the same sizes.
        seed: Of the assignments, which all measures share.

    Returns:
        A test for each measure; its statistic is the largest over the smallest mean of a slice.
    """
    kept = slices >= 0
    values, slices = values[kept].double(), slices[kept]
    names, sizes = slices.unique(return_counts=True)
    generator = torch.Generator().manual_seed(seed)

    def gaps(assigned: torch.Tensor) -> torch.Tensor:
        """For slices assigned to the faces, (P, N), the ratio of the largest to the smallest mean, (P, M)."""
        means = torch.stack(
            [(assigned == name).double() @ values / size for name, size in zip(names, sizes, strict=True)]
        )
        return means.amax(dim=0) / means.amin(dim=0)

    observed = gaps(slices[None])[0]
    at_once, beyond = max(1, BLOCK // max(1, len(values))), torch.zeros(values.shape[1])
    for first in range(0, permutations, at_once):
        size = min(at_once, permutations - first)
        assigned = slices[torch.rand(size, len(values), generator=generator).argsort(dim=1)]
        beyond += (gaps(assigned) >= observed - 1e-12).sum(dim=0)
    p_values = ((1 + beyond) / (1 + permutations)).tolist()
    return [TestResult(float(gap), p, len(values)) for gap, p in zip(observed, p_values, strict=True)]


def false_discovery_rates(p_values: Sequence[float]) -> list[float]:
    """For each test, the smallest rate of false discoveries at which it counts (Benjamini and Hochberg 1995).

    Args:
        p_values: Of m tests that are independent, or depend on each other positively.

    Returns:
        m values, at least as large as the p-values: the test of rank r has min over s >= r of m p_(s) / s.
    """
    p = torch.tensor(p_values, dtype=torch.float64)
    order = p.argsort(descending=True)
    rates = len(p) * p[order] / torch.arange(len(p), 0, -1)
    return rates.cummin(dim=0).values[order.argsort()].clamp(max=1).tolist() if len(p) else []
