"""Intervals and tests over faces. What is resampled is always a face with all its completions, never a completion:
completions of one half are not independent of each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

RESAMPLES = 1000
PERMUTATIONS = 999
LEVEL = 0.95
BLOCK = 1_000_000
"""Numbers held at once while resampling, so that memory does not grow with the number of faces."""


@dataclass(frozen=True)
class Estimate:
    """A mean or ratio over faces.

    Attributes:
        value: The estimate.
        low: Lower end of its interval at `LEVEL`; NaN for a single face.
        high: Upper end.
        num_faces: Faces that have a value.
    """

    value: float
    low: float
    high: float
    num_faces: int


def _resampled_counts(num_faces: int, resamples: int, seed: int) -> Iterator[torch.Tensor]:
    """How often each face is drawn in each bootstrap resample: (b, N) counts, block by block until all B are drawn."""
    generator = torch.Generator().manual_seed(seed)
    at_once = max(1, min(resamples, BLOCK // max(1, num_faces)))
    for first in range(0, resamples, at_once):
        num = min(at_once, resamples - first)
        drawn = torch.randint(num_faces, (num, num_faces), generator=generator)
        yield torch.zeros(num, num_faces).scatter_add_(1, drawn, torch.ones(num, num_faces))


def resampled_means(values: torch.Tensor, resamples: int = RESAMPLES, seed: int = 0) -> torch.Tensor:
    """Means of every column over bootstrap resamples of the faces (Efron 1979), all columns on the same resamples.

    Args:
        values: (N, M); NaN where a face has no value.
        resamples: B.
        seed: Of the resamples.

    Returns:
        (B, M); NaN where a resample drew no face with a value.
    """
    there = ~values.isnan()
    filled, weights = values.nan_to_num(0.0).double(), there.double()
    means = []
    for counts in _resampled_counts(len(values), resamples, seed):
        means.append((counts.double() @ filled) / (counts.double() @ weights))
    return torch.cat(means)


def mean_estimate(values: torch.Tensor, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean over faces with its percentile bootstrap interval.

    Args:
        values: (N,); NaN where a face has no value.
        resamples: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        The estimate; its value is NaN if no face has one.
    """
    return mean_estimates({"": values}, resamples, seed)[""]


def mean_estimates(values: dict[str, torch.Tensor], resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Estimate]:
    """As `mean_estimate`, for several values of the same faces at once.

    Args:
        values: (N,) each, by name.
        resamples: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        Estimates by name.
    """
    if not values:
        return {}
    together = torch.stack(list(values.values()), dim=1)
    return dict(zip(values, estimates_of(together, resampled_means(together, resamples, seed)), strict=True))


def estimates_of(values: torch.Tensor, means: torch.Tensor) -> list[Estimate]:
    """Estimates of M columns from their resampled means.

    Args:
        values: (N, M); NaN where a face has no value.
        means: (B, M) from `resampled_means`.

    Returns:
        M estimates.
    """
    numbers = values.double().nanmean(dim=0).tolist()
    there = (~values.isnan()).sum(dim=0).tolist()
    nothing = float("nan"), float("nan")
    return [
        Estimate(number, *(ends if num > 1 else nothing), num)
        for number, ends, num in zip(numbers, interval(means), there, strict=True)
    ]


def ratio_estimate(
    numerator: torch.Tensor, denominator: torch.Tensor, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """The ratio of two means over the same faces, numerator and denominator resampled together.

    Args:
        numerator: (N,); NaN where a face has no value.
        denominator: (N,).
        resamples: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        The estimate.
    """
    there = ~(numerator.isnan() | denominator.isnan())
    together = torch.stack([numerator[there], denominator[there]], dim=1)
    if len(together) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    value = float(together[:, 0].double().mean() / together[:, 1].double().mean())
    means = resampled_means(together, resamples, seed)
    low, high = interval(means[:, :1] / means[:, 1:])[0] if len(together) > 1 else (float("nan"), float("nan"))
    return Estimate(value, low, high, len(together))


def agreement_estimates(
    read: torch.Tensor, rated: torch.Tensor, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Estimate]:
    """How well what is read off faces follows what they are rated.

    Args:
        read: (N,).
        rated: (N,); NaN where a face has no rating.
        resamples: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        `correlation`; `r2`, the variance explained, below 0 where the mean rating would be nearer; and `slope`, what
        is read for each unit of rating, below 1 where a reader keeps to the middle.
    """
    there = ~rated.isnan()
    x, y = read[there].double(), rated[there].double()
    x, y = x - y.mean(), y - y.mean()
    moments = torch.stack([x, y, x * x, y * y, x * y], dim=1)

    def figures(means: torch.Tensor) -> torch.Tensor:
        mean_x, mean_y, xx, yy, xy = means.unbind(dim=-1)
        var_x, var_y, together = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
        return torch.stack(
            [together / (var_x * var_y).sqrt(), 1 - (xx - 2 * xy + yy) / var_y, together / var_y], dim=-1
        )

    ends = interval(figures(resampled_means(moments, resamples, seed)))
    values = figures(moments.mean(dim=0)).tolist()
    names = ("correlation", "r2", "slope")
    return {name: Estimate(value, *end, len(x)) for name, value, end in zip(names, values, ends, strict=True)}


def interval(draws: torch.Tensor) -> list[tuple[float, float]]:
    """Percentile interval of each column of resampled values, (B, M)."""
    outside = (1 - LEVEL) / 2
    ends = torch.nanquantile(draws, torch.tensor([outside, 1 - outside], dtype=draws.dtype), dim=0)
    return [(float(low), float(high)) for low, high in ends.T]


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
